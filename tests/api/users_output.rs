//! What the `users` commands print.

use std::time::Duration;

use insta::assert_snapshot;
use jwks_server::cli::users::render::*;
use jwks_server::clock::{Moment, UnixTime};
use jwks_server::domain::account_admin::{AccountDetails, AccountId, StateChange};
use serde_json::{Value, json};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const OUTLOOK: TokenOutlook = TokenOutlook {
    token_lifetime: Duration::from_secs(3600),
    now: NOW,
};

fn accounts() -> [AccountDetails; 2] {
    let secs = Duration::from_secs;
    let alice = AccountDetails {
        id: AccountId::from_row(1),
        username: "alice".to_owned(),
        email: Some("alice@example.com".to_owned()),
        password_hash: "$argon2id$v=19$m=65536,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$WeUbGcYNQJQYEQwLQQkvMMuaCFKAYZcDhaW6fMoHlNM".to_owned(),
        registered: Some(NOW - secs(86_400)),
        last_sign_in: Some(NOW - secs(60)),
        disabled: None,
        enabled: None,
    };
    let odd = AccountDetails {
        id: AccountId::from_row(7),
        username: "\u{1b}[31mbob\u{202e}".to_owned(),
        email: None,
        password_hash: "hunter2".to_owned(),
        registered: None,
        last_sign_in: Some(NOW - secs(3600)),
        disabled: Some(StateChange {
            at: NOW - secs(5),
            reason: Some("left".to_owned()),
        }),
        enabled: None,
    };
    [alice, odd]
}

#[test]
fn accounts_are_listed_in_a_table_and_the_next_page_is_named() {
    assert_snapshot!(list(&accounts(), true, &OUTLOOK, false), @r#"
    ID  NAME                   E-MAIL             STATE     REGISTERED            LAST SIGN-IN
    1   alice                  alice@example.com  active    2027-01-14T08:00:00Z  2027-01-15T07:59:00Z
    7   \u{1b}[31mbob\u{202e}  -                  disabled  -                     2027-01-15T07:00:00Z
    There are more: --after 7
    "#);
    assert!(!list(&accounts(), false, &OUTLOOK, false).contains("--after"));
}

#[test]
fn accounts_are_listed_in_json() {
    let listed: Value = serde_json::from_str(&list(&accounts(), true, &OUTLOOK, true)).unwrap();
    assert_eq!(listed["next_after"], 7);
    assert_eq!(
        listed["users"][0]["password_hash"],
        "argon2id m=65536,t=3,p=2"
    );
    let odd = json!({
        "id": 7,
        "username": "\u{1b}[31mbob\u{202e}",
        "email": null,
        "state": "disabled",
        "disabled_at": Moment::from(NOW - Duration::from_secs(5)),
        "enabled_at": null,
        "reason": "left",
        "registered_at": null,
        "last_sign_in_at": Moment::from(NOW - Duration::from_secs(3600)),
        "password_hash": null,
        "tokens_until": null,
    });
    assert_eq!(listed["users"][1], odd);
}

#[test]
fn one_account_is_shown_with_the_tokens_that_may_be_alive() {
    let [alice, odd] = accounts();
    assert_snapshot!(show(&alice, &OUTLOOK, false), @"
    Id             1
    Name           alice
    E-mail         alice@example.com
    State          active
    Registered     2027-01-14T08:00:00Z
    Last sign-in   2027-01-15T07:59:00Z
    Password hash  argon2id m=65536,t=3,p=2
    Tokens alive   until 2027-01-15T08:59:00Z at most
    ");
    assert_snapshot!(show(&odd, &OUTLOOK, false), @r#"
    Id             7
    Name           \u{1b}[31mbob\u{202e}
    E-mail         -
    State          disabled at 2027-01-15T07:59:55Z: left
    Registered     -
    Last sign-in   2027-01-15T07:00:00Z
    Password hash  UNREADABLE: nobody can sign in; `users reset` makes a new password
    Tokens alive   none
    "#);
    assert!(show(&alice, &OUTLOOK, true).contains("2027-01-15T08:59:00Z"));
    let state = |reason: Option<&str>| {
        let reason = reason.map(str::to_owned);
        let enabled = Some(StateChange { at: NOW, reason });
        let account = AccountDetails {
            enabled,
            ..alice.clone()
        };
        let shown = show(&account, &OUTLOOK, false);
        let line = shown.lines().find(|line| line.starts_with("State"));
        line.unwrap().to_owned()
    };
    assert_snapshot!(state(None), @"State          active, enabled at 2027-01-15T08:00:00Z");
    assert_snapshot!(state(Some("is \u{1b}back")), @r"State          active, enabled at 2027-01-15T08:00:00Z: is \u{1b}back");
}

#[test]
fn changes_say_how_long_tokens_live_on_and_show_a_password_only_when_it_was_generated() {
    let [alice, odd] = accounts();
    let password = "secret".to_owned().into();
    assert_snapshot!(added("carol", Some(&password), false), @"
    Account carol was added.
    Password, shown this once: secret
    ");
    assert_eq!(imported(1, false), "1 account was added.\n");
    assert_eq!(imported(2, false), "2 accounts were added.\n");
    assert_snapshot!(added("carol", None, true), @r#"
    {
      "added": "carol"
    }
    "#);
    assert_snapshot!(reset(&odd, Some(&password), &OUTLOOK, false), @r#"
    Account \u{1b}[31mbob\u{202e} has a new password.
    Password, shown this once: secret
    The account stays disabled.
    It has no token that is still good.
    "#);
    assert_snapshot!(reset(&alice, Some(&password), &OUTLOOK, true), @r#"
    {
      "password": "secret",
      "reset": "alice",
      "tokens_until": {
        "epoch": 1800003540,
        "time": "2027-01-15T08:59:00Z"
      }
    }
    "#);
    assert_snapshot!(disabled(&alice, &OUTLOOK, false), @"
    Account alice is disabled.
    Tokens that it was given stay good for up to 1h (TOKEN_LIFETIME), until 2027-01-15T08:59:00Z at most.
    ");
    assert_snapshot!(deleted(&odd, Some(1), &OUTLOOK, false) + &not_erased(&[]), @r#"
    Account \u{1b}[31mbob\u{202e} is deleted.
    Its 1 sign-in is deleted too.
    It has no token that is still good.
    The name is free: who registers it next has tokens with the same sub. `users disable` keeps a name taken.
    No byte of them is left in the database file. Not erased: older backups, files of --keep-file, the log, and copies that the file system keeps.
    "#);
    assert_snapshot!(deleted(&alice, None, &OUTLOOK, true), @r#"
    {
      "deleted": "alice",
      "tokens_until": {
        "epoch": 1800003540,
        "time": "2027-01-15T08:59:00Z"
      }
    }
    "#);
    assert_snapshot!(enabled(&odd, false), @r#"Account \u{1b}[31mbob\u{202e} may sign in again."#);
}
