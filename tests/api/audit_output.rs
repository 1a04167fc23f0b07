//! What the `audit` commands print.

use insta::assert_snapshot;
use jwks_server::cli::audit::render::*;
use jwks_server::clock::UnixTime;
use jwks_server::domain::account_admin::AccountId;
use jwks_server::domain::audit::Pruned;
use jwks_server::domain::database::SignInRow;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn rows() -> [SignInRow; 3] {
    let row = |id, client: &str, user: Option<(i64, &str)>| SignInRow {
        id,
        at: Some(NOW),
        client: client.to_owned(),
        account: user.map(|(id, _)| AccountId::from_row(id)),
        username: user.map(|(_, name)| name.to_owned()),
    };
    [
        row(9, "2001:db8::1", Some((1, "alice"))),
        row(8, "\u{1b}[31m", Some((2, "a\",\n\u{202e}b"))),
        SignInRow {
            at: None,
            ..row(7, "192.0.2.1", None)
        },
    ]
}

#[test]
fn sign_ins_are_listed_in_a_table_and_the_next_page_is_named() {
    assert_snapshot!(list(&rows(), true, false), @r#"
    ID  TIME                  CLIENT       NAME
    9   2027-01-15T08:00:00Z  2001:db8::1  alice
    8   2027-01-15T08:00:00Z  \u{1b}[31m   a",\u{a}\u{202e}b
    7   -                     192.0.2.1    -
    There are more: --below 7
    "#);
}

#[test]
fn sign_ins_are_listed_in_json() {
    assert_snapshot!(list(&rows()[..1], true, true), @r#"
    {
      "next_below": 9,
      "sign_ins": [
        {
          "at": {
            "epoch": 1800000000,
            "time": "2027-01-15T08:00:00Z"
          },
          "client": "2001:db8::1",
          "id": 9,
          "user_id": 1,
          "username": "alice"
        }
      ]
    }
    "#);
}

#[test]
fn an_export_has_one_line_for_each_sign_in_whatever_is_in_it() {
    assert_snapshot!(export(&rows(), false), @r#"
    9,2027-01-15T08:00:00Z,"2001:db8::1",1,"alice"
    8,2027-01-15T08:00:00Z,"\u{1b}[31m",2,"a"",\u{a}\u{202e}b"
    7,,"192.0.2.1",,
    "#);
    assert_snapshot!(export(&rows(), true), @r#"
    {"id":9,"at":{"time":"2027-01-15T08:00:00Z","epoch":1800000000},"client":"2001:db8::1","user_id":1,"username":"alice"}
    {"id":8,"at":{"time":"2027-01-15T08:00:00Z","epoch":1800000000},"client":"\u001b[31m","user_id":2,"username":"a\",\n\u202eb"}
    {"id":7,"at":null,"client":"192.0.2.1","user_id":null,"username":null}
    "#);
}

#[test]
fn a_name_is_no_formula_in_a_spreadsheet() {
    let [row, ..] = rows();
    for name in ["=1+1", "+1", "-1", "@SUM(A1)"] {
        let username = Some(name.to_owned());
        let text = export(
            &[SignInRow {
                username,
                ..row.clone()
            }],
            false,
        );
        assert!(text.ends_with(&format!(",1,\"'{name}\"\n")), "{text}");
    }
}

#[test]
fn pruning_says_how_many_are_gone_and_where_they_are() {
    let file = Some("kept.jsonl".as_ref());
    let rows = |unreadable| Pruned {
        deleted: 3,
        unreadable,
    };
    let few = |deleted| Pruned {
        deleted,
        unreadable: deleted,
    };
    assert_snapshot!(pruned(few(1), NOW, file, false) + &pruned(few(0), NOW, file, false), @r#"
    1 sign-in before 2027-01-15T08:00:00Z is deleted.
    kept.jsonl has each of them.
    1 whose time or address cannot be read is left.
    0 sign-ins before 2027-01-15T08:00:00Z are deleted.
    "#);
    assert_snapshot!(pruned(rows(0), NOW, file, false) + &pruned(rows(2), NOW, None, true), @r#"
    3 sign-ins before 2027-01-15T08:00:00Z are deleted.
    kept.jsonl has each of them.
    {
      "before": {
        "epoch": 1800000000,
        "time": "2027-01-15T08:00:00Z"
      },
      "keep_file": null,
      "pruned": 3,
      "unreadable": 2
    }
    "#);
    assert_snapshot!(progress(11, 20, 15), @r#"[####################                    ]  50 %"#);
    assert!(progress(i64::MIN, i64::MAX, i64::MAX).contains("100 %"));
}
