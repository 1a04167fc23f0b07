//! The one way down of ARCHITECTURE.md, read from the source: a module that used one
//! above it would close a circle, or name one that it may not. Comments, unit tests,
//! and what a module and its parent share do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::{fs, process::Command};

/// Modules, and the modules and libraries that only they may name.
const ONLY: [&str; 11] = [
    "app cli config: crate::config",
    "app cli http: crate::http",
    "app domain store: crate::store",
    "app config domain crypto trial: crate::crypto",
    "cli trial: crate::trial",
    "store::sqlite: rusqlite refinery",
    "store::postgres: tokio_postgres deadpool_postgres tokio_postgres_rustls",
    "http app trial::issuer trial::sandbox: axum",
    "http app: tower_governor",
    "crypto: aws_lc_rs rsa fernet argon2 argon2id_simd bcrypt jsonwebtoken",
    "cli: clap",
];

#[test]
fn no_module_uses_one_that_uses_it() {
    let files = files();
    let mut arrows = BTreeSet::new();
    for (module, paths) in &files {
        let from: Vec<_> = module.split("::").collect();
        for path in paths {
            let mut to = from.clone();
            for name in path.split("::") {
                match name {
                    "crate" => to.clear(),
                    "super" => drop(to.pop()),
                    name => to.push(name),
                }
            }
            while !to.is_empty() && !files.contains_key(&to.join("::")) {
                to.pop();
            }
            let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if same < from.len().min(to.len()) {
                arrows.insert([&from[..=same], &to[..=same]].map(|it| it.join("::")));
            }
        }
    }
    // In a circle, every arrow follows one and is followed by one.
    let mut before = usize::MAX;
    while arrows.len() < before {
        before = arrows.len();
        let all = arrows.clone();
        arrows.retain(|[_, used]| all.iter().any(|[other, _]| other == used));
        arrows.retain(|[user, _]| all.iter().any(|[_, other]| other == user));
    }
    assert!(arrows.is_empty(), "circles: {arrows:#?}");
}

#[test]
fn modules_and_libraries_are_named_only_where_they_belong() {
    for (module, paths) in files() {
        for (modules, names) in ONLY.iter().filter_map(|it| it.split_once(": ")) {
            let is_one = |path: &&String| names.split(' ').any(|name| is_in(path, name));
            let named = paths.iter().find(is_one);
            let is_right = named.is_none() || modules.split(' ').any(|it| is_in(&module, it));
            assert!(is_right, "{module}: {named:?}");
        }
    }
}

#[test]
fn the_pages_about_the_code_name_files_that_exist() {
    let roots = ".cargo src tests docs migrations benches crates packaging openapi.json SECURITY.md CHANGELOG.md README.md compose.yaml";
    let found = find(roots);
    let files: Vec<_> = found.iter().map(|path| format!("/{path}")).collect();
    let ends = [
        ".rs", ".md", ".json", ".sql", ".txt", ".yml", ".toml", ".py",
    ];
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md", "tests/README.md"] {
        let text = fs::read_to_string(page).unwrap();
        // Every second part stands between backticks.
        let named = text.split('`').skip(1).step_by(2);
        for name in named.filter(|name| ends.iter().any(|end| name.ends_with(end))) {
            let is_placeholder = name.starts_with('/')
                || name.contains(['<', ' '])
                || name.contains("NAME")
                || name.contains("-N.");
            let is_there = files.iter().any(|file| file.ends_with(&format!("/{name}")));
            assert!(is_placeholder || is_there, "{page}: {name}");
        }
    }
}

#[test]
fn architecture_names_functions_that_exist() {
    let found = find("src tests crates migrations -name *.rs -o -name *.sql -o -name *.py");
    let files = found.iter().map(|path| fs::read_to_string(path).unwrap());
    let files: Vec<_> = files.collect();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let words = |text| str::split(text, |c| !is_part(c)).collect::<BTreeSet<_>>();
    let words: Vec<_> = files.iter().map(|text| words(text)).collect();
    let page = fs::read_to_string("ARCHITECTURE.md").unwrap();
    for name in page.split('`').skip(1).step_by(2) {
        let name = name.strip_suffix("()").unwrap_or(name);
        // A path of Rust, whose parts stand in one file, or a name in snake case.
        let is_code = name.chars().all(|c| is_part(c) || c == ':') && name.contains(['_', ':']);
        let has_all = |file: &BTreeSet<_>| name.split("::").all(|part| file.contains(part));
        let is_there = words.iter().any(has_all);
        assert!(!is_code || is_there || name == "fr_NN", "{name}");
    }
}

fn is_in(path: &str, outer: &str) -> bool {
    format!("{path}::").starts_with(&format!("{outer}::"))
}

/// The modules of `src`, each with the paths in its code.
fn files() -> BTreeMap<String, Vec<String>> {
    let read = |path: &String| {
        let module = path[4..path.len() - 3].replace('/', "::");
        let text = fs::read_to_string(path).unwrap();
        let module = module.strip_suffix("::mod").unwrap_or(&module).to_owned();
        (module, paths(&text))
    };
    let found = find("src -name *.rs -not -name tests.rs -not -name lib.rs");
    found.iter().map(read).collect()
}

/// Paths that `find` prints for these words.
fn find(words: &str) -> Vec<String> {
    let found = Command::new("find").args(words.split(' ')).output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    found.lines().map(str::to_owned).collect()
}

/// The entries of a group `a::{b, c}` are paths of their own.
fn paths(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    let ends = |c: char| !c.is_alphanumeric() && !"_:".contains(c);
    let (mut groups, mut paths) = (vec![String::new()], Vec::new());
    for word in lines.flat_map(|line| line.split_inclusive(ends)) {
        let path = groups.last().unwrap().clone() + word.trim_end_matches(ends);
        if word.ends_with("::{") {
            groups.push(path.clone());
        } else if word.ends_with('}') && groups.len() > 1 {
            groups.pop();
        }
        paths.push(path);
    }
    paths.retain(|path| path.contains("::"));
    paths
}
