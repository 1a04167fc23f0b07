//! The one way down of ARCHITECTURE.md, read from the source: no module uses one
//! above it or one that uses it, and libraries stay where they belong. Comments,
//! unit tests and what a module and its parent share do not count.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

type Module = Vec<String>;

/// Each top-level module with those that it may use.
const LAYERS: [(&str, &str); 13] = [
    ("clock", ""),
    ("lifecycle", "clock"),
    ("metrics", "clock"),
    ("crypto", "lifecycle clock metrics"),
    ("store", "lifecycle clock metrics"),
    ("domain", "store crypto lifecycle clock metrics"),
    ("config", "domain crypto lifecycle clock"),
    ("http", "domain lifecycle clock metrics"),
    ("systemd", "domain lifecycle clock metrics"),
    (
        "app",
        "http systemd config domain store crypto lifecycle clock metrics",
    ),
    (
        "cli",
        "app http systemd config domain lifecycle clock metrics",
    ),
    ("lib", ""),
    ("main", ""),
];

/// Libraries with the modules that may name them.
const LIBRARIES: [(&str, &str); 4] = [
    ("rusqlite refinery", "store::sqlite"),
    ("axum tower_governor", "http app"),
    (
        "aws_lc_rs rsa fernet argon2 argon2id_simd jsonwebtoken",
        "crypto",
    ),
    ("clap", "cli"),
];

#[test]
fn no_module_uses_one_above_it_or_one_that_uses_it() {
    let files = files();
    let modules: BTreeSet<_> = files.iter().map(|(module, _)| module).collect();
    let mut arrows = BTreeSet::new();
    for (from, text) in &files {
        for mut to in uses(text, from) {
            while !to.is_empty() && !modules.contains(&to) {
                to.pop();
            }
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (from.get(shared), to.get(shared)) {
                arrows.insert((from[..shared].join("::"), a.clone(), b.clone()));
            }
        }
    }
    let is_up = |(folder, from, to): &&(String, String, String)| {
        let layer = LAYERS.iter().find(|(layer, _)| layer == from);
        folder.is_empty() && !layer.is_some_and(|(_, may)| may.split(' ').any(|it| it == to))
    };
    let up: Vec<_> = arrows.iter().filter(is_up).collect();
    assert!(up.is_empty(), "arrows up: {up:#?}");
    // In a circle, every arrow follows one and is followed by one.
    while let Some(outside) = arrows.iter().find(|(folder, from, to)| {
        let mut others = arrows.iter().filter(|(other, ..)| other == folder);
        !others.clone().any(|(_, next, _)| next == to) || !others.any(|(.., last)| last == from)
    }) {
        arrows.remove(&outside.clone());
    }
    assert!(arrows.is_empty(), "circles: {arrows:#?}");
}

#[test]
fn libraries_are_named_only_where_they_belong() {
    let mut wrong = Vec::new();
    for (module, text) in files() {
        let module = module.join("::");
        for (libraries, allowed) in LIBRARIES {
            let is_in = |folder| format!("{module}::").starts_with(&format!("{folder}::"));
            let mut named = libraries
                .split(' ')
                .filter(|it| !after(&text, &format!("{it}::")).is_empty());
            if !allowed.split(' ').any(is_in) {
                wrong.extend(
                    named
                        .next()
                        .map(|library| format!("{module} names {library}")),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every file of `src`: its module, and its text without comments and unit tests.
fn files() -> Vec<(Module, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![src.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&src).unwrap().with_extension("");
            let names = name.iter().map(|part| part.to_str().unwrap().to_owned());
            let module: Module = names.filter(|name| name != "mod").collect();
            if path.is_dir() {
                folders.push(path);
            } else if !module.contains(&"tests".to_owned()) {
                let text = fs::read_to_string(path).unwrap();
                let code = text
                    .split("#[cfg(test)]\nmod tests {")
                    .next()
                    .unwrap()
                    .lines();
                let code: Vec<_> = code
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .collect();
                found.push((module, code.join("\n")));
            }
        }
    }
    assert!(found.len() > 50);
    found
}

/// What follows each `name` in `text` that is not a part of a longer path.
fn after<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let is_inner = |c: char| c.is_alphanumeric() || "_:$".contains(c);
    let found = text
        .match_indices(name)
        .filter(|(at, _)| !text[..*at].ends_with(is_inner));
    found.map(|(at, _)| &text[at + name.len()..]).collect()
}

/// The absolute paths of `crate::` and `super::` in the text of a module.
fn uses(text: &str, module: &Module) -> Vec<Module> {
    let parent = &module[..module.len().saturating_sub(1)];
    let mut paths = Vec::new();
    for (base, name) in [(&[][..], "crate::"), (parent, "super::")] {
        for path in after(text, name) {
            let end = path.find(|c: char| !c.is_alphanumeric() && !"_:".contains(c));
            let (path, rest) = path.split_at(end.unwrap_or(path.len()));
            let group = rest
                .strip_prefix('{')
                .and_then(|rest| rest.split(';').next());
            for item in group.unwrap_or_default().split([',', '{']) {
                let parts = path.split("::").chain(item.trim().split("::"));
                let path = base.iter().cloned().chain(parts.map(str::to_owned));
                paths.push(path.filter(|part| !part.is_empty()).collect());
            }
        }
    }
    paths
}
