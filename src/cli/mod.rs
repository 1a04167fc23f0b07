//! The command line: its arguments, and a file for each command.

pub mod audit;
mod backup;
mod check;
mod completions;
mod db;
mod doctor;
mod fetch;
mod health;
mod init;
mod keygen;
pub mod keys;
pub mod log;
mod man;
mod misuse;
mod operator;
mod output;
mod report;
mod restore;
mod sandbox;
mod serve;
mod service_settings;
mod terminal;
mod trial;
pub mod users;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::config::ConfigError;
use crate::domain::database::DatabaseError;
use misuse::misuse;
use output::{print, print_part, say};

/// No core dumps.
const NO_CORE: Rlimit = Rlimit {
    current: Some(0),
    maximum: Some(0),
};
/// Exit code of a command that was refused and changed nothing.
const REFUSED: u8 = 2;
/// Position of an option behind all of a command's own, however many there are.
const LAST: usize = 900;
/// Those of commands that do not tell their own.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed while it ran; something may have been changed
  2  refused; nothing was changed";

/// A small JWT issuer: publishes a JSON Web Key Set whose keys rotate by
/// themselves, registers users and signs them in.
#[derive(Parser)]
#[command(
    name = "jwks-server",
    version = env!("JWKS_SERVER_VERSION"),
    args_conflicts_with_subcommands = true,
    max_term_width = 80,
    after_help = "Settings come from the environment and from the file .env of the working directory; README.md lists them."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
    /// Read this file instead of .env
    #[arg(long, value_name = "PATH", global = true, display_order = LAST)]
    env_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service; the default command
    Serve(ServeArgs),
    /// Print a fresh key for NOT_MY_KEY
    Keygen,
    /// List and change the signing keys; a running server follows, usually within a second
    #[command(subcommand, alias = "key")]
    Keys(keys::KeysCommand),
    /// List and change accounts; a running server follows at once
    #[command(subcommand, alias = "user")]
    Users(users::UsersCommand),
    /// List, export and prune the sign-ins that were answered with a token
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Copy the database, which may be in use, to a new file, and verify the copy
    Backup(backup::BackupArgs),
    /// Put a backup in the place of the database, which must not be in use
    Restore(restore::RestoreArgs),
    /// Move to another database engine
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Verify a token against a key set and show the result of each step
    #[command(after_help = verify::EXIT_CODES)]
    Verify(verify::VerifyArgs),
    /// Check configuration, database, keys, machine and running service, and say what to do; changes nothing
    #[command(after_help = doctor::EXIT_CODES)]
    Doctor(doctor::DoctorArgs),
    /// Ask the running service whether it is ready; for containers, whose image may have no curl
    #[command(after_help = health::EXIT_CODES)]
    Health(operator::Output),
    /// Try a verifier, anybody's: send it good and bad tokens and say what it should have refused
    #[command(after_help = trial::EXIT_CODES)]
    Trial(Box<trial::TrialArgs>),
    /// Check a key set or an issuer, anybody's, and say what to do; sends nothing but requests for it
    #[command(after_help = check::EXIT_CODES)]
    Check(check::CheckArgs),
    /// Run an issuer for tests on this machine: it signs anything, and its keys, its clock and its faults are changed by requests
    #[command(after_help = sandbox::ROUTES)]
    Sandbox(sandbox::SandboxArgs),
    /// Print the manual page, or write those of all commands
    Man(man::ManArgs),
    /// Print a script with which a shell completes commands and options
    Completions(completions::CompletionsArgs),
}

#[derive(Default, Args)]
struct ServeArgs {
    /// Create .env with a fresh NOT_MY_KEY first, if none is set and there is no database yet
    #[arg(long)]
    init: bool,
    /// Create this user with this password unless the name exists; may be repeated. For demonstrations only: all users of the machine can read it in the list of processes; use DEMO_USER instead, which they cannot
    #[arg(long, value_name = "NAME:PASSWORD")]
    demo_user: Vec<String>,
}

pub fn main() -> ExitCode {
    // The memory holds private keys. Failing means that an operator has set the
    // limit, whose value stands then.
    let _ = setrlimit(Resource::Core, NO_CORE);
    let matches = with_exit_codes(Cli::command()).try_get_matches();
    let cli = match matches.and_then(|it| Cli::from_arg_matches(&it)) {
        Ok(cli) => cli,
        Err(e) if !e.use_stderr() => {
            // Help or the version.
            let _ = e.print();
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            say(&misuse(&e));
            return ExitCode::from(REFUSED);
        }
    };
    terminal::fit();
    let env_file = cli.env_file.as_deref();
    let outcome = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(args, env_file),
        Command::Keygen => keygen::run(),
        Command::Keys(command) => keys::run(command, env_file),
        Command::Users(command) => users::run(command, env_file),
        Command::Audit(command) => audit::run(command, env_file),
        Command::Backup(args) => backup::run(&args, env_file),
        Command::Restore(args) => restore::run(&args, env_file),
        Command::Db(command) => db::run(command, env_file),
        Command::Verify(args) => verify::run(args, env_file),
        Command::Doctor(args) => doctor::run(args, env_file),
        Command::Health(args) => health::run(args, env_file),
        Command::Trial(args) => trial::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Sandbox(args) => sandbox::run(&args),
        Command::Man(args) => man::run(&args, with_exit_codes(Cli::command())),
        Command::Completions(args) => completions::run(&args, Cli::command()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// Adds the exit codes to the help of each command that does not tell its own.
fn with_exit_codes(command: clap::Command) -> clap::Command {
    let command = command.mut_subcommands(with_exit_codes);
    let help = match command.get_after_help().map(ToString::to_string) {
        Some(help) if help.contains("Exit codes:") => help,
        Some(help) => format!("{help}\n\n{EXIT_CODES}"),
        None => EXIT_CODES.to_owned(),
    };
    command.after_help(help)
}

/// One line that says why a command failed, and its exit code.
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    /// Refused; nothing was changed.
    fn refused(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: REFUSED,
        }
    }

    /// Failed while it ran; something may have been changed.
    fn broken(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: 1,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::refused(error.to_string())
    }
}

/// A runtime for a command that waits for one thing at a time.
fn runtime() -> Result<Runtime, Failure> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|e| Failure::broken(e.to_string()))
}
