//! Schemas of other versions: those of before are brought up to date, that of the next
//! one is served as it is, as in a rolling upgrade.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::replicas::{Replica, run, sealing_key, url};

/// A dump of each schema that there was, under `schemas/`. The first line of each has
/// the sealing key and the passwords.
struct Dump {
    sealing_key: String,
    passwords: [String; 2],
    sql: String,
}

impl Dump {
    fn read(name: &str) -> Self {
        let path = Path::new("tests/engines/schemas").join(name);
        let sql = fs::read_to_string(path).unwrap();
        let words: Vec<_> = sql.lines().next().unwrap().split_whitespace().collect();
        let word = |index: usize| words[index].trim_end_matches(',').to_owned();
        let (_, key) = words[1].split_once('=').unwrap();
        Self {
            sealing_key: key.trim_end_matches(',').to_owned(),
            passwords: [word(5), word(8)],
            sql,
        }
    }

    /// Alice signs in; Bob, where the schema can say that he may not, does not.
    async fn works(&self, database_url: &str, bob: u16) {
        let server = Replica::start_at(&self.sealing_key, database_url);
        server.until("/readyz", 200).await;
        for (name, password, wanted) in [
            ("alice", &self.passwords[0], 200),
            ("bob", &self.passwords[1], bob),
        ] {
            let json = format!(r#"{{"username":"{name}","password":"{password}"}}"#);
            let (status, _, body) = server.post("/auth", &json).await;
            assert_eq!(status, wanted, "{database_url} {name} {body}");
        }
        server.stop();
    }
}

/// Number of migrations in a folder.
fn steps(folder: &str) -> usize {
    let files = fs::read_dir(folder).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "sql"))
        .count()
}

fn file(dir: &TempDir) -> (PathBuf, String) {
    let path = dir.path().join("keys.db");
    let url = format!("sqlite:{}", path.display());
    (path, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_each_earlier_schema_is_brought_up_to_date() {
    for number in 1..=steps("migrations") {
        let dump = Dump::read(&format!("sqlite-{number}.sql"));
        let dir = tempfile::tempdir().unwrap();
        let (path, url) = file(&dir);
        let conn = Connection::open(&path).unwrap();
        // A table comes before the one that it refers to.
        conn.pragma_update(None, "foreign_keys", false).unwrap();
        conn.execute_batch(&dump.sql).unwrap();
        conn.close().unwrap();
        dump.works(&url, if number < 6 { 200 } else { 401 }).await;
        let conn = Connection::open(&path).unwrap();
        let count = |sql: &str| conn.query_row(sql, [], |row| row.get(0)).unwrap();
        let signed_in: i64 = count("SELECT count(*) FROM auth_logs");
        assert_eq!(signed_in, if number < 6 { 5 } else { 4 });
        let made: i64 = count("SELECT count(*) FROM refinery_schema_history");
        assert_eq!(usize::try_from(made).unwrap(), steps("migrations"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_each_earlier_schema_is_brought_up_to_date() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    for number in 1..=steps("migrations/postgres") {
        let dump = Dump::read(&format!("postgres-{number}.sql"));
        let name = cluster.create_database();
        cluster.sql(&name, &dump.sql);
        dump.works(&url(cluster.port, &name), 401).await;
        let signed_in = cluster.sql(&name, "SELECT count(*) FROM auth_logs");
        assert_eq!(signed_in, "4");
        let made = cluster.sql(&name, "SELECT count(*) FROM schema_migrations");
        assert_eq!(made, steps("migrations/postgres").to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_next_version_is_served_and_one_of_another_line_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (path, url) = file(&dir);
    let key = sealing_key();
    Replica::start_at(&key, &url).stop();
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(
        "CREATE TABLE later (id INTEGER PRIMARY KEY);
         ALTER TABLE key_times ADD COLUMN later TEXT;
         CREATE INDEX key_times_later ON key_times (later);
         INSERT INTO refinery_schema_history
         SELECT max(version) + 1, 'later', '2030-01-01T00:00:00Z', '1' FROM refinery_schema_history;",
    )
    .unwrap();
    conn.close().unwrap();
    works(&key, &url).await;
    let (code, text) = run(
        &key,
        &url,
        &["db", "copy", "--to", "postgres://localhost/x"],
    );
    assert!(code == 2 && text.contains("run that version"), "{text}");
    for (change, why) in [
        (
            "ALTER TABLE key_events ADD COLUMN rule TEXT CHECK (rule <> 'x')",
            "table key_events, or an index of it, is not as this service needs it",
        ),
        (
            "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 2",
            "its step V2__key_times was another one",
        ),
    ] {
        Connection::open(&path)
            .unwrap()
            .execute_batch(change)
            .unwrap();
        let (code, text) = run(&key, &url, &["serve"]);
        assert!(code == 2 && text.contains(why), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_next_version_is_served_and_one_of_another_line_is_not() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let (key, name) = (sealing_key(), cluster.create_database());
    let url = url(cluster.port, &name);
    Replica::start_at(&key, &url).stop();
    let later = "CREATE TABLE later (id BIGINT PRIMARY KEY); ALTER TABLE key_times ADD COLUMN later TEXT;
         INSERT INTO schema_migrations (version, name) SELECT max(version) + 1, 'later' FROM schema_migrations";
    cluster.sql(&name, later);
    works(&key, &url).await;
    let (code, text) = run(&key, &url, &["db", "copy", "--to", "sqlite:x.db"]);
    assert!(code == 2 && text.contains("run that version"), "{text}");
    cluster.sql(
        &name,
        "UPDATE schema_migrations SET name = 'x' WHERE version = 1",
    );
    let (code, text) = run(&key, &url, &["serve"]);
    assert!(
        code == 2 && text.contains("where 0001_schema should be"),
        "{text}"
    );
}

/// A server registers, signs in and follows a rotation.
async fn works(sealing_key: &str, url: &str) {
    let server = Replica::start_at(sealing_key, url);
    server.until("/readyz", 200).await;
    let json = r#"{"username":"alice","email":"alice@x.example"}"#;
    let (_, _, body) = server.post("/register", json).await;
    let password = body.split('"').nth(3).unwrap();
    let json = format!(r#"{{"username":"alice","password":"{password}"}}"#);
    assert_eq!(server.post("/auth", &json).await.0, 200);
    let args = ["keys", "rotate", "--now", "--reason", "drill", "--yes"];
    let (code, text) = run(sealing_key, url, &args);
    assert_eq!(code, 0, "{text}");
    let (code, text) = run(sealing_key, url, &["doctor"]);
    assert!(
        text.contains("a later version has changed it"),
        "{code} {text}"
    );
    server.stop();
}
