//! `users`: commands for operators on the accounts of a database, which may be in use.

pub mod render;

use std::fs::File;
use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::operator::{self, Output, checked_reason, confirm, page_size, row_id};
use super::{Failure, print, runtime, say, service_settings};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::domain::account_admin::{
    AccountError, AccountFilter, AccountOperations, check_password,
};
use crate::domain::account_import::{self, ImportError};
use crate::domain::accounts::SignUpError;
use crate::domain::database;
use crate::domain::names::{Email, Invalid, Username};
use render::TokenOutlook;

/// Asked before a deletion.
const WARNING: &str = "The account and its password would be deleted for good.";
/// Bytes of standard input that are read at most: more than a password may have.
const MAX_INPUT: u64 = 2048;

#[derive(Debug, Subcommand)]
pub(super) enum UsersCommand {
    /// List accounts in the order of their ids
    List {
        /// Only where the name or the e-mail address matches: % is any text, _ any character
        #[arg(long, value_name = "PATTERN")]
        like: Option<String>,
        /// Only disabled accounts
        #[arg(long)]
        disabled: bool,
        /// Number of accounts, at most 10000
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = page_size)]
        limit: u32,
        /// The next page: only accounts with a larger id
        #[arg(long, value_name = "ID", value_parser = row_id)]
        after: Option<i64>,
        #[command(flatten)]
        output: Output,
    },
    /// Show one account: state, last sign-in, password hash, tokens alive
    Show(Named),
    /// Make an account with a new password, which is shown once
    Add {
        #[command(flatten)]
        named: Named,
        /// E-mail address
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        #[command(flatten)]
        password: Password,
    },
    /// Add the accounts of another server: all of a file, or none
    Import {
        /// JSON lines: {"username": "…", "email": "…", "password_hash": "…"}, with Argon2 (PHC string) or bcrypt; email may be missing. - is standard input
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Replace a password by a new one, which is shown once; tokens live on
    Reset {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        password: Password,
    },
    /// Refuse an account's sign-ins, as those of an unknown name; tokens live on
    Disable {
        #[command(flatten)]
        named: Named,
        /// Reason, shown by `users show`
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let a disabled account sign in again
    Enable {
        #[command(flatten)]
        named: Named,
        /// Reason, shown by `users show`
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Delete an account for good; its sign-ins stay in auth_logs without it, tokens live on
    Delete {
        #[command(flatten)]
        named: Named,
        /// Delete its sign-ins too, and write the file anew, so that no byte of them is left in it; sign-ins wait meanwhile
        #[arg(long)]
        with_audit: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// Name of the account
    name: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Password {
    /// Read the password from standard input instead, without the end of its line
    #[arg(long)]
    password_stdin: bool,
}

impl From<Invalid> for Failure {
    fn from(error: Invalid) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<AccountError> for Failure {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Hash(_)
            | AccountError::Store(_)
            | AccountError::SignUp(SignUpError::Service(_)) => Self::broken(error.to_string()),
            refusal => Self::refused(refusal.to_string()),
        }
    }
}

pub(super) fn run(command: UsersCommand, env_file: Option<&Path>) -> Result<(), Failure> {
    if let UsersCommand::Delete { yes, .. } = command {
        confirm(WARNING, yes)?;
    }
    let mut settings = operator::settings(env_file)?;
    for difference in service_settings::apply(&mut settings).differences {
        say(&difference);
    }
    let config = Config::from_settings(&settings)?;
    let outlook = TokenOutlook {
        token_lifetime: config.keys.policy.token_lifetime,
        now: SystemClock::new().now(),
    };
    match command {
        // These two change nothing, so that they work beside a service of any user
        // and version.
        UsersCommand::List {
            like,
            disabled,
            limit,
            after,
            output,
        } => {
            let filter = AccountFilter {
                pattern: like,
                disabled,
                after: after.unwrap_or(i64::MIN),
                // One more tells whether there is another page.
                limit: limit + 1,
            };
            let mut found = database::list_accounts(&config.database, &filter)?;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let is_cut = found.len() > limit;
            found.truncate(limit);
            print(&render::list(&found, is_cut, &outlook, output.json))
        }
        UsersCommand::Show(Named { name, output }) => {
            let found = database::account(&config.database, &name)?;
            let account = found.ok_or(AccountError::Unknown)?;
            print(&render::show(&account, &outlook, output.json))
        }
        command => runtime()?.block_on(run_on_database(command, config, &outlook)),
    }
}

/// On PostgreSQL, whose files are its administrator's.
const NOT_ERASED: &str = "The rows are deleted, not erased: their bytes stay in PostgreSQL's files until VACUUM has freed their space and other rows have filled it, and for as long as they are kept in its write-ahead log, archives, standbys and backups.";

async fn run_on_database(
    command: UsersCommand,
    config: Config,
    outlook: &TokenOutlook,
) -> Result<(), Failure> {
    if matches!(command, UsersCommand::Disable { .. }) {
        database::free_reserve(&config.database);
    }
    let erases = matches!(
        command,
        UsersCommand::Delete {
            with_audit: true,
            ..
        }
    );
    let is_unerased = erases && database::is_unerased(&config.database)?;
    let store = database::open_existing(&config.database, &config.keys.sealing_keys).await?;
    let accounts = AccountOperations {
        store: store.clone(),
        costs: config.accounts.costs,
        clock: Arc::new(SystemClock::new()),
    };
    let done = execute(command, &accounts, outlook, is_unerased).await;
    store.close().await;
    let done = done?;
    if erases {
        database::erase_deleted(&config.database).map_err(|e| {
            Failure::broken(format!(
                "the account and its sign-ins are deleted, but bytes of them may be left in the file, though not in a backup made now; the same command once more erases them: {e}"
            ))
        })?;
    }
    print(&done)?;
    if erases {
        let left = match config.database.file() {
            Some(_) => render::not_erased(&database::replaced_files(&config.database)),
            None => NOT_ERASED.to_owned(),
        };
        // A terminal that is gone is no reason to fail.
        let _ = writeln!(std::io::stderr(), "{left}");
    }
    Ok(())
}

/// The output. `is_unerased`: an earlier run has deleted accounts and failed then.
async fn execute(
    command: UsersCommand,
    accounts: &AccountOperations,
    outlook: &TokenOutlook,
    is_unerased: bool,
) -> Result<String, Failure> {
    match command {
        // These open no database for writing; see `run`.
        UsersCommand::List { .. } | UsersCommand::Show(_) => Ok(String::new()),
        UsersCommand::Add {
            named: Named { name, output },
            email,
            password,
        } => {
            let name = Username::parse(&name)?;
            let email = email.map(|email| Email::parse(&email)).transpose()?;
            let given = read_password(&password)?;
            let is_given = given.is_some();
            let made = accounts.add(name.clone(), email, given).await?;
            let shown = (!is_given).then_some(made);
            Ok(render::added(name.as_str(), shown.as_ref(), output.json))
        }
        UsersCommand::Import { file, output } => {
            let imported = import(&file, accounts).await;
            let imported = imported.map_err(|e| not_imported(&file, e))?;
            Ok(render::imported(imported, output.json))
        }
        UsersCommand::Reset {
            named: Named { name, output },
            password,
        } => {
            let given = read_password(&password)?;
            let is_given = given.is_some();
            let (account, made) = accounts.reset(&name, given).await?;
            let shown = (!is_given).then_some(made);
            Ok(render::reset(
                &account,
                shown.as_ref(),
                outlook,
                output.json,
            ))
        }
        UsersCommand::Disable {
            named: Named { name, output },
            reason,
        } => {
            let account = accounts.disable(&name, checked_reason(reason)?).await?;
            Ok(render::disabled(&account, outlook, output.json))
        }
        UsersCommand::Enable {
            named: Named { name, output },
            reason,
        } => {
            let reason = reason.map(checked_reason).transpose()?;
            let account = accounts.enable(&name, reason).await?;
            Ok(render::enabled(&account, output.json))
        }
        UsersCommand::Delete {
            named: Named { name, output },
            with_audit,
            ..
        } => match accounts.delete(&name, with_audit).await {
            Err(AccountError::Unknown) if is_unerased => Ok(render::erased(output.json)),
            deleted => {
                let (account, sign_ins) = deleted?;
                let sign_ins = with_audit.then_some(sign_ins);
                Ok(render::deleted(&account, sign_ins, outlook, output.json))
            }
        },
    }
}

fn not_imported(file: &Path, error: ImportError) -> Failure {
    let file = match file == Path::new("-") {
        true => "standard input".into(),
        false => file.to_string_lossy(),
    };
    match error {
        ImportError::Store(e) => Failure::broken(e.to_string()),
        ImportError::Problems(problems) => {
            problems.texts().iter().for_each(|text| say(text));
            Failure::refused(format!("nothing of {file} was imported"))
        }
        e => Failure::refused(format!("nothing of {file} was imported: {e}")),
    }
}

/// Imports the accounts of a file, or those of standard input, and returns their number.
async fn import(file: &Path, accounts: &AccountOperations) -> Result<usize, ImportError> {
    let read = match file == Path::new("-") {
        true => account_import::read(std::io::stdin().lock()),
        false => account_import::read(BufReader::new(File::open(file)?)),
    };
    account_import::import(&accounts.store, read?, accounts.clock.now()).await
}

/// The password from standard input, if it is to be read there.
fn read_password(from: &Password) -> Result<Option<SecretString>, Failure> {
    if !from.password_stdin {
        return Ok(None);
    }
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let mut input = std::io::stdin().lock().take(MAX_INPUT);
    let read = input.read_to_string(&mut text);
    read.map_err(|e| Failure::refused(format!("the password cannot be read: {e}")))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Ok(Some(check_password(line.to_owned().into())?))
}
