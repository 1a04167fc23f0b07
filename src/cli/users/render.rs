//! Output of the `users` commands: tables for people, JSON for programs.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::cli::terminal::{columns, document, line, plain, table};
use crate::clock::{Moment, UnixTime};
use crate::domain::account_admin::{AccountDetails, StateChange, hash_parameters, tokens_until};

/// For how long tokens that were handed out until now are good.
pub struct TokenOutlook {
    pub token_lifetime: Duration,
    pub now: UnixTime,
}

/// `is_cut`: there is another page.
pub fn list(
    accounts: &[AccountDetails],
    is_cut: bool,
    outlook: &TokenOutlook,
    as_json: bool,
) -> String {
    let next = accounts
        .last()
        .filter(|_| is_cut)
        .map(|last| last.id.as_i64());
    if as_json {
        let users: Vec<_> = accounts
            .iter()
            .map(|it| account_json(it, outlook))
            .collect();
        return document(&json!({ "users": users, "next_after": next }));
    }
    let rows = accounts.iter().map(|account| {
        vec![
            account.id.to_string(),
            plain(&account.username),
            account.email.as_deref().map_or("-".to_owned(), plain),
            state(account).to_owned(),
            time(account.registered),
            time(account.last_sign_in),
        ]
    });
    let header = [
        "ID",
        "NAME",
        "E-MAIL",
        "STATE",
        "REGISTERED",
        "LAST SIGN-IN",
    ];
    let mut text = table(&header, rows, columns());
    if let Some(next) = next {
        text += &format!("There are more: --after {next}\n");
    }
    text
}

pub fn show(account: &AccountDetails, outlook: &TokenOutlook, as_json: bool) -> String {
    if as_json {
        return document(&account_json(account, outlook));
    }
    let change = |it: &StateChange| {
        let reason = it.reason.as_deref().map(plain);
        let reason = reason.map_or(String::new(), |why| format!(": {why}"));
        format!("{}{reason}", it.at.rfc3339())
    };
    let state = match (&account.disabled, &account.enabled) {
        (Some(it), _) => format!("disabled at {}", change(it)),
        (None, Some(it)) => format!("active, enabled at {}", change(it)),
        (None, None) => state(account).to_owned(),
    };
    let hash = hash_parameters(account).unwrap_or_else(|| {
        "UNREADABLE: nobody can sign in; `users reset` makes a new password".to_owned()
    });
    let tokens = tokens_until(account, outlook.token_lifetime, outlook.now);
    let tokens = tokens.map_or("none".to_owned(), |until| {
        format!("until {} at most", until.rfc3339())
    });
    [
        ("Id", account.id.to_string()),
        ("Name", plain(&account.username)),
        (
            "E-mail",
            account.email.as_deref().map_or("-".to_owned(), plain),
        ),
        ("State", state),
        ("Registered", time(account.registered)),
        ("Last sign-in", time(account.last_sign_in)),
        ("Password hash", hash),
        ("Tokens alive", tokens),
    ]
    .iter()
    .map(|(name, value)| line(&format!("{name:13}  {value}"), 15, columns()))
    .collect()
}

/// `password`: the one to show, if it was generated.
pub fn added(name: &str, password: Option<&SecretString>, as_json: bool) -> String {
    if as_json {
        return document(&with_password(json!({ "added": name }), password));
    }
    format!("Account {} was added.\n{}", plain(name), shown(password))
}

pub fn imported(accounts: usize, as_json: bool) -> String {
    match as_json {
        true => document(&json!({ "imported": accounts })),
        false if accounts == 1 => "1 account was added.\n".to_owned(),
        false => format!("{accounts} accounts were added.\n"),
    }
}

pub fn reset(
    account: &AccountDetails,
    password: Option<&SecretString>,
    outlook: &TokenOutlook,
    as_json: bool,
) -> String {
    if as_json {
        return document(&with_password(
            changed_json(account, "reset", outlook),
            password,
        ));
    }
    let still = match account.disabled {
        Some(_) => "The account stays disabled.\n",
        None => "",
    };
    format!(
        "Account {} has a new password.\n{}{still}{}",
        plain(&account.username),
        shown(password),
        tokens_live_on(account, outlook)
    )
}

pub fn disabled(account: &AccountDetails, outlook: &TokenOutlook, as_json: bool) -> String {
    if as_json {
        return document(&changed_json(account, "disabled", outlook));
    }
    format!(
        "Account {} is disabled.\n{}",
        plain(&account.username),
        tokens_live_on(account, outlook)
    )
}

/// `sign_ins`: number of those that were deleted too, if they were to be.
pub fn deleted(
    account: &AccountDetails,
    sign_ins: Option<usize>,
    outlook: &TokenOutlook,
    as_json: bool,
) -> String {
    if as_json {
        let mut value = changed_json(account, "deleted", outlook);
        if let Some(sign_ins) = sign_ins {
            value["sign_ins_deleted"] = json!(sign_ins);
        }
        return document(&value);
    }
    let sign_ins = match sign_ins {
        Some(1) => "Its 1 sign-in is deleted too.\n".to_owned(),
        Some(count) => format!("Its {count} sign-ins are deleted too.\n"),
        None => String::new(),
    };
    format!(
        "Account {} is deleted.\n{sign_ins}{}The name is free: who registers it next has tokens with the same sub. `users disable` keeps a name taken.\n",
        plain(&account.username),
        tokens_live_on(account, outlook)
    )
}

/// What an erased file leaves; `replaced`: files that restores have set aside.
pub fn not_erased(replaced: &[PathBuf]) -> String {
    let names = replaced.iter().map(|path| plain(&path.to_string_lossy()));
    let aside = match names.collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => String::new(),
        names => format!(", the files that restores have set aside ({names})"),
    };
    format!(
        "No byte of them is left in the database file. Not erased: older backups{aside}, files of --keep-file, the log, and copies that the file system keeps."
    )
}

pub fn enabled(account: &AccountDetails, as_json: bool) -> String {
    if as_json {
        return document(&json!({ "enabled": account.username }));
    }
    format!("Account {} may sign in again.\n", plain(&account.username))
}

fn changed_json(account: &AccountDetails, what: &str, outlook: &TokenOutlook) -> Value {
    json!({
        what: account.username,
        "tokens_until": tokens(account, outlook),
    })
}

fn account_json(account: &AccountDetails, outlook: &TokenOutlook) -> Value {
    let change = account.disabled.as_ref().or(account.enabled.as_ref());
    json!({
        "id": account.id.as_i64(),
        "username": account.username,
        "email": account.email,
        "state": state(account),
        "disabled_at": account.disabled.as_ref().map(|it| Moment::from(it.at)),
        "enabled_at": account.enabled.as_ref().map(|it| Moment::from(it.at)),
        "reason": change.and_then(|it| it.reason.as_ref()),
        "registered_at": account.registered.map(Moment::from),
        "last_sign_in_at": account.last_sign_in.map(Moment::from),
        "password_hash": hash_parameters(account),
        "tokens_until": tokens(account, outlook),
    })
}

fn tokens(account: &AccountDetails, outlook: &TokenOutlook) -> Option<Moment> {
    tokens_until(account, outlook.token_lifetime, outlook.now).map(Moment::from)
}

fn with_password(mut value: Value, password: Option<&SecretString>) -> Value {
    if let Some(password) = password {
        value["password"] = json!(password.expose_secret());
    }
    value
}

fn shown(password: Option<&SecretString>) -> String {
    password.map_or(String::new(), |password| {
        format!("Password, shown this once: {}\n", password.expose_secret())
    })
}

fn tokens_live_on(account: &AccountDetails, outlook: &TokenOutlook) -> String {
    match tokens_until(account, outlook.token_lifetime, outlook.now) {
        Some(until) => format!(
            "Tokens that it was given stay good for up to {} (TOKEN_LIFETIME), until {} at most.\n",
            humantime::format_duration(outlook.token_lifetime),
            until.rfc3339()
        ),
        None => "It has no token that is still good.\n".to_owned(),
    }
}

fn state(account: &AccountDetails) -> &'static str {
    match account.disabled {
        Some(_) => "disabled",
        None => "active",
    }
}

fn time(at: Option<UnixTime>) -> String {
    at.map_or("-".to_owned(), UnixTime::rfc3339)
}

/// After a run that had deleted an account and not erased it.
pub fn erased(as_json: bool) -> String {
    match as_json {
        true => document(&json!({ "erased": true })),
        false => {
            "There is no such account. What was left of deleted accounts is erased.\n".to_owned()
        }
    }
}
