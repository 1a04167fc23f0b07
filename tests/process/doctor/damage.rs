//! Databases with something wrong in them.

use std::fs;

use super::{FAILED, WELL, closed_folder, doctor, files, used_folder};
use crate::support::{database, sql};

#[test]
fn a_damaged_row_and_a_key_under_another_kid_are_named() {
    let dir = used_folder("");
    let kid: i64 = sql(dir.path())
        .query_row(
            "SELECT kid FROM keys ORDER BY exp DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let sealed: Vec<u8> = sql(dir.path())
        .query_row("SELECT key FROM keys WHERE kid = ?", [kid], |row| {
            row.get(0)
        })
        .unwrap();
    let mut broken = sealed.clone();
    broken[100] ^= 1;
    let put = "UPDATE keys SET key = ? WHERE kid = ?";
    sql(dir.path())
        .execute(put, rusqlite::params![broken, kid])
        .unwrap();
    let visit = doctor(dir.path(), &[]);
    assert_eq!(visit.code, FAILED);
    let said = visit.said("keys", "fail");
    assert!(
        said.contains(&kid.to_string()) && said.contains("does not open"),
        "{said}"
    );
    let said = visit.said("signing", "fail");
    assert!(said.contains("a start is refused"), "{said}");

    sql(dir.path())
        .execute(put, rusqlite::params![sealed, kid])
        .unwrap();
    sql(dir.path())
        .execute_batch(&format!(
            "PRAGMA foreign_keys = OFF; UPDATE keys SET kid = 7 WHERE kid = {kid};
             UPDATE key_times SET kid = 7 WHERE kid = {kid};"
        ))
        .unwrap();
    let said = doctor(dir.path(), &[]).said("keys", "fail");
    assert!(said.contains("key 7 ") && said.contains("kid"), "{said}");

    sql(dir.path())
        .execute("UPDATE keys SET key = 5 WHERE kid = 7", [])
        .unwrap();
    let said = doctor(dir.path(), &[]).said("keys", "fail");
    assert!(said.contains("row 7"), "{said}");
}

#[test]
fn another_schema_is_reported_and_not_touched() {
    let dir = closed_folder("");
    let first = include_str!("../../../migrations/V1__accounts_and_keys.sql");
    sql(dir.path()).execute_batch(first).unwrap();
    let before = files(dir.path());
    let visit = doctor(dir.path(), &[]);
    assert!(
        visit.said("schema", "warn").contains("0 of "),
        "{}",
        visit.text
    );
    assert_eq!(visit.code, WELL);
    assert_eq!(files(dir.path()), before);

    let other = "ALTER TABLE users ADD COLUMN nickname TEXT";
    sql(dir.path()).execute_batch(other).unwrap();
    let said = doctor(dir.path(), &[]).said("schema", "fail");
    assert!(said.contains("nickname"), "{said}");

    let dir = used_folder("");
    sql(dir.path())
        .execute(
            "INSERT INTO refinery_schema_history
             SELECT max(version) + 1, 'later', '2030-01-01T00:00:00Z', '1' FROM refinery_schema_history",
            [],
        )
        .unwrap();
    let said = doctor(dir.path(), &[]).said("schema", "warn");
    assert!(said.contains("a later version has changed it"), "{said}");
}

#[test]
fn a_damaged_file_fails() {
    let dir = used_folder("");
    let path = database(dir.path());
    let whole = fs::read(&path).unwrap();
    fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert_eq!(doctor(dir.path(), &[]).results("database"), ["fail"]);
    let mut torn = whole;
    let end = torn.len();
    // Every page but the first few, which hold the schema.
    torn[5 * 4096..end].fill(0xaa);
    fs::write(&path, torn).unwrap();
    let visit = doctor(dir.path(), &[]);
    assert_eq!(
        (visit.code, visit.results("database")),
        (FAILED, vec!["fail"])
    );
}

#[test]
fn a_clock_behind_the_database_and_an_overdue_key_are_reported() {
    let dir = used_folder("");
    sql(dir.path())
        .execute(
            "UPDATE auth_logs SET request_timestamp = datetime('now', '+1 day')",
            [],
        )
        .unwrap();
    let visit = doctor(dir.path(), &[]);
    assert_eq!((visit.code, visit.results("clock")), (WELL, vec!["warn"]));

    sql(dir.path())
        .execute_batch("DELETE FROM auth_logs; UPDATE keys SET exp = min(exp, unixepoch() - 5)")
        .unwrap();
    let visit = doctor(dir.path(), &[]);
    assert_eq!(
        (visit.code, visit.results("rotation")),
        (WELL, vec!["warn"])
    );
    assert_eq!(visit.results("signing"), ["warn"]);
}
