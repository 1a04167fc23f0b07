//! `JWKS_SERVER_VERSION`: the version, with commit and date of the source where
//! git knows them. Never the time of the build, so that builds can be compared.
//! `postgres_migrations.rs`: names and statements of the files in `migrations/postgres`, in order.
//! Refuses other systems than Linux, in one line rather than in an error at each use.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=migrations");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|it| it != "linux") {
        println!("cargo::error=jwks-server runs on Linux only");
    }
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let source = source().map(|it| format!(" ({it})")).unwrap_or_default();
    println!("cargo::rustc-env=JWKS_SERVER_VERSION={version}{source}");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("postgres_migrations.rs"), postgres_migrations()?)
}

/// An expression without the path of this folder, so that builds can be compared.
fn postgres_migrations() -> io::Result<String> {
    let files = fs::read_dir("migrations/postgres")?.map(|file| file.map(|it| it.path()));
    let mut files = files.collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|it| it == "sql"));
    files.sort();
    let steps = files.iter().map(|file| {
        let name = file.file_stem().unwrap_or_default().display();
        let file = file.display();
        format!(r#"("{name}", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/{file}"))),"#)
    });
    Ok(format!("&[{}]", steps.collect::<String>()))
}

/// Commit and day (UTC), of optimised builds only: others would be built again after
/// each commit.
fn source() -> Option<String> {
    // An unpacked archive may be in a folder of another repository.
    let is_ours = Path::new(".git").exists();
    if !is_ours || env::var("PROFILE").ok()? != "release" {
        return None;
    }
    // The log of HEAD changes with every commit and checkout.
    let watched = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&watched).exists() {
        println!("cargo::rerun-if-changed={watched}");
    }
    git(&[
        "log",
        "-1",
        "--abbrev=12",
        "--date=format-local:%Y-%m-%d",
        "--format=%h %cd",
    ])
}

/// None where git is missing or fails.
fn git(args: &[&str]) -> Option<String> {
    let out = Command::new("git")
        // The folder may belong to another user.
        .args(["--no-pager", "-c", "safe.directory=*"])
        .args(args)
        .env("TZ", "UTC")
        .output()
        .ok()?;
    let text = String::from_utf8(out.stdout).ok()?.trim().to_owned();
    (out.status.success() && !text.is_empty()).then_some(text)
}
