//! Output of the `audit` commands: tables and CSV for people, JSON for programs.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::terminal::{columns, document, escaped, plain, table};
use crate::clock::{Moment, UnixTime};
use crate::domain::audit::{Pruned, line};
use crate::domain::database::SignInRow;

/// Columns of the progress bar.
const BAR: usize = 40;

pub const CSV_HEADER: &str = "id,time,client,user_id,username\n";

/// `is_cut`: there is another page.
pub fn list(rows: &[SignInRow], is_cut: bool, as_json: bool) -> String {
    let next = rows.last().filter(|_| is_cut).map(|last| last.id);
    if as_json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "id": row.id,
                    "at": row.at.map(Moment::from),
                    "client": row.client,
                    "user_id": row.account.map(|id| id.as_i64()),
                    "username": row.username,
                })
            })
            .collect();
        return document(&json!({ "sign_ins": rows, "next_below": next }));
    }
    let lines = rows.iter().map(|row| {
        vec![
            row.id.to_string(),
            row.at.map_or("-".to_owned(), UnixTime::rfc3339),
            plain(&row.client),
            row.username.as_deref().map_or("-".to_owned(), plain),
        ]
    });
    let mut text = table(&["ID", "TIME", "CLIENT", "NAME"], lines, columns());
    if let Some(next) = next {
        text += &format!("There are more: --below {next}\n");
    }
    text
}

/// Lines of an export.
pub fn export(rows: &[SignInRow], as_json: bool) -> String {
    let each = |row| match as_json {
        true => format!("{}\n", escaped(&line(row))),
        false => csv(row),
    };
    rows.iter().map(each).collect()
}

/// One line of RFC 4180. Control characters are escaped, so it is one line always. Text
/// that a spreadsheet would calculate gets an apostrophe before it: anybody can register
/// such a name.
fn csv(row: &SignInRow) -> String {
    let quoted = |text: &str| {
        let apostrophe = if text.starts_with(['=', '+', '-', '@']) {
            "'"
        } else {
            ""
        };
        format!("\"{apostrophe}{}\"", plain(text).replace('"', "\"\""))
    };
    format!(
        "{},{},{},{},{}\n",
        row.id,
        row.at.map(UnixTime::rfc3339).unwrap_or_default(),
        quoted(&row.client),
        row.account.map(|id| id.to_string()).unwrap_or_default(),
        row.username.as_deref().map(quoted).unwrap_or_default(),
    )
}

/// `keep`: the file that has them.
pub fn pruned(rows: Pruned, before: UnixTime, keep: Option<&Path>, as_json: bool) -> String {
    let keep = keep.map(|path| path.to_string_lossy());
    if as_json {
        return document(&json!({
            "pruned": rows.deleted,
            "unreadable": rows.unreadable,
            "before": Moment::from(before),
            "keep_file": keep,
        }));
    }
    let kept = keep.filter(|_| rows.deleted > 0);
    let kept = kept.map_or(String::new(), |path| {
        format!("{} has each of them.\n", plain(&path))
    });
    let left = match rows.unreadable {
        0 => String::new(),
        1 => "1 whose time or address cannot be read is left.\n".to_owned(),
        left => format!("{left} whose time or address cannot be read are left.\n"),
    };
    let before = before.rfc3339();
    match rows.deleted {
        1 => format!("1 sign-in before {before} is deleted.\n{kept}{left}"),
        rows => format!("{rows} sign-ins before {before} are deleted.\n{kept}{left}"),
    }
}

/// The bar when the row with the id `now` is done, of those from `first` to `last`.
pub fn progress(first: i64, last: i64, now: i64) -> String {
    let all = last.saturating_sub(first).saturating_add(1).max(1);
    let done = now.saturating_sub(first).saturating_add(1).clamp(0, all);
    let percent = usize::try_from(i128::from(done) * 100 / i128::from(all)).unwrap_or(100);
    let full = percent * BAR / 100;
    format!(
        "[{}{}] {percent:3} %",
        "#".repeat(full),
        " ".repeat(BAR - full)
    )
}
