//! `check`: a key set or an issuer, anybody's: the document, how it is served, its
//! discovery documents, a token, and all of it over time. A file for each part; what
//! is right in a key set is `crate::trial::key_set`.

mod discovery;
mod http;
mod time;
mod tls;
mod token;
mod watch;

use std::time::Duration;

use clap::Args;

use super::report::Report;
use super::{Failure, fetch};
use crate::trial::key_set;
use fetch::Client;
use token::Tokens;

/// Longest watch, and longest time between two looks.
const MAX_TIME: Duration = Duration::from_secs(31 * 24 * 60 * 60);
const MIN_EVERY: Duration = Duration::from_millis(100);

pub(super) const EXIT_CODES: &str = "\
Each line says ok, warn or fail, the check, what it found, and what to do.
With an issuer's URL, its discovery documents name the key set.

Exit codes:
  0  nothing failed; there may be warnings
  1  something failed
  2  wrong usage";

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The key set, or the issuer
    #[arg(value_name = "URL")]
    url: String,
    /// A token, whose key must be there; or - to read it from standard input, hidden from other users of the machine
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_command")]
    token: Option<String>,
    /// A command of the shell that prints a fresh token, or an answer of /auth
    #[arg(long, value_name = "LINE")]
    token_command: Option<String>,
    /// Look again and again for this long, and check how keys come and go; with --token-command also how they are used
    #[arg(long, value_name = "DURATION", value_parser = time)]
    watch: Option<Duration>,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = time, requires = "watch")]
    every: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    if !args.url.contains("://") {
        return Err(Failure::refused("URL is an http or https URL"));
    }
    let mut tokens = Tokens::new(args.token.as_deref(), args.token_command.as_deref())?;
    let mut report = Report::default();
    let client = Client::for_url(&args.url);
    let found = discovery::key_set(&client, &args.url, &mut report);
    let urls = found.key_set.iter().chain(&found.issuer);
    let mut servers: Vec<_> = urls.map(String::as_str).collect();
    servers.dedup_by_key(|url| fetch::authority(url));
    for url in servers {
        tls::check(&client, url, &mut report);
    }
    if let Some(url) = &found.key_set
        && let Some(reply) = http::check(&client, url, &mut report)
    {
        report.extend(key_set::findings(&reply.body));
        token::check(&mut tokens, &reply.body, found.issuer, &mut report);
        if let Some(duration) = args.watch {
            let max_age = http::max_age(reply.header("cache-control")).unwrap_or_default();
            let plan = time::Plan {
                duration,
                every: args.every,
                max_age,
            };
            time::watch(&client, url, &plan, &mut tokens, &mut report);
        }
    }
    report.finish(args.json)
}

fn time(text: &str) -> Result<Duration, String> {
    let value = humantime::parse_duration(text).ok();
    value
        .filter(|value| (MIN_EVERY..=MAX_TIME).contains(value))
        .ok_or_else(|| "it is a time with a unit, such as 10s or 24h, up to 31 days".to_owned())
}
