//! What is said of a command line that clap refuses.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::operator;
use crate::config::Name;

/// One line that says what is wrong with the command line. Repeats names of
/// options only: any other argument may be a password or a key.
pub(super) fn misuse(error: &clap::Error) -> String {
    let (named, are) = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => (arg.clone(), "is"),
        Some(ContextValue::Strings(args)) if args.len() > 1 => (args.join(", "), "are"),
        Some(ContextValue::Strings(args)) => (args.concat(), "is"),
        _ => (String::new(), "is"),
    };
    let option = named.split(['=', ' ']).next().unwrap_or_default();
    let source = std::error::Error::source(error);
    let allowed = source.and_then(|source| source.downcast_ref::<operator::Allowed>());
    let what = match (error.kind(), allowed) {
        (_, Some(allowed)) => format!("{option} is {allowed}"),
        (ErrorKind::MissingRequiredArgument, _) => format!("{named} {are} missing"),
        (ErrorKind::InvalidSubcommand, _) => "unknown command".to_owned(),
        (ErrorKind::UnknownArgument, _) if option.starts_with('-') => {
            format!("unknown option {option}")
        }
        (ErrorKind::UnknownArgument, _) => "unexpected argument".to_owned(),
        _ if option.starts_with(['-', '<']) => format!("invalid use of {option}"),
        _ => "a command is missing".to_owned(),
    };
    let meant = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg]
        .into_iter()
        .find_map(|kind| match error.get(kind)? {
            ContextValue::String(name) => Some(name.clone()),
            // The best one comes last.
            ContextValue::Strings(names) => names.last().cloned(),
            _ => None,
        });
    match (meant, Name::nearest(option.trim_start_matches('-'))) {
        (Some(meant), _) => format!("{what}: did you mean {meant}? See --help"),
        (None, Some(name)) if error.kind() == ErrorKind::UnknownArgument => {
            format!("{what}: {name} is set in the environment or in .env; see --help")
        }
        _ => format!("{what}; see --help"),
    }
}
