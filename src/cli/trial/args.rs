//! What the command line of `trial` says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use strum::VariantNames as _;

use crate::trial::{Codes, Grade, TrialStage};

const MAX_WITHIN: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Args)]
pub(in crate::cli) struct TrialArgs {
    /// The verifier: a URL that answers a request with a good token by 2xx and one with a bad token by 4xx
    #[arg(
        long,
        value_name = "URL",
        required_unless_present = "command",
        conflicts_with = "command"
    )]
    pub(super) url: Option<String>,
    /// The verifier: a command of the shell that reads a token from standard input; exit code 0 accepts, 1 refuses, all others are crashes
    #[arg(long, value_name = "LINE")]
    pub(super) command: Option<String>,
    /// Send the token in this header field, without Bearer [default: Authorization, with Bearer]
    #[arg(long, value_name = "NAME", group = "place")]
    pub(super) header: Option<String>,
    /// Send the token in this cookie
    #[arg(long, value_name = "NAME", group = "place")]
    pub(super) cookie: Option<String>,
    /// Send the token in this parameter of the URL
    #[arg(long, value_name = "NAME", group = "place")]
    pub(super) query: Option<String>,
    /// Send the token in this field of a form, by POST
    #[arg(long, value_name = "NAME", group = "place")]
    pub(super) form: Option<String>,
    /// Address and port of the issuer [default: 127.0.0.1:8790, with --command any port]
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Option<SocketAddr>,
    /// iss of good tokens [default: http:// and the address of --listen]
    #[arg(long, value_name = "TEXT")]
    pub(super) issuer: Option<String>,
    /// aud of good tokens; without it they have none, and the cases of aud are left out
    #[arg(long, value_name = "TEXT")]
    pub(super) audience: Option<String>,
    /// A JSON object with other claims that good tokens need
    #[arg(long, value_name = "FILE")]
    pub(super) claims: Option<PathBuf>,
    /// Statuses or exit codes that accept [default: 200-299, or 0]
    #[arg(long, value_name = "CODES")]
    pub(super) accept: Option<Codes>,
    /// Statuses or exit codes that refuse [default: 400-499 and a redirection that a request without a token gets, or 1]
    #[arg(long, value_name = "CODES")]
    pub(super) refuse: Option<Codes>,
    /// What to try, one after the other: tokens; for a verifier that fetches the key set for an unknown kid also sets, a flood of such kids, an outage, a rotation, an emergency
    #[arg(long, value_name = "STAGES", value_parser = stage(), value_delimiter = ',', default_value = "tokens")]
    pub(super) stages: Vec<TrialStage>,
    /// Longest wait for the verifier to follow a change of the key set, up to 1h
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = within)]
    pub(super) within: Duration,
    /// Try these cases only
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// Leave these cases out
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    pub(super) except: Vec<String>,
    /// Lowest grade whose findings fail the run
    #[arg(long, value_parser = grade(), default_value = "must")]
    pub(super) grade: Grade,
    /// Accepted findings: a file with a case's id and the reason on each line
    #[arg(long, value_name = "FILE")]
    pub(super) known: Option<PathBuf>,
    /// Send to a verifier that is not on this machine; you answer for it
    #[arg(long)]
    pub(super) yes_i_may: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Print Markdown, as for the summary of a job
    #[arg(long, conflicts_with = "json")]
    pub(super) markdown: bool,
    /// Write a report for programs that read JUnit's
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// Write a report in SARIF 2.1.0
    #[arg(long, value_name = "FILE")]
    pub(super) sarif: Option<PathBuf>,
}

impl TrialArgs {
    pub(super) fn is_for_people(&self) -> bool {
        !self.json && !self.markdown
    }
}

fn stage() -> impl TypedValueParser<Value = TrialStage> {
    PossibleValuesParser::new(TrialStage::VARIANTS).try_map(|name| name.parse())
}

fn grade() -> impl TypedValueParser<Value = Grade> {
    PossibleValuesParser::new(Grade::ALL.map(Grade::name)).try_map(|name| name.parse())
}

fn within(text: &str) -> Result<Duration, String> {
    let value = humantime::parse_duration(text).ok();
    value
        .filter(|value| *value <= MAX_WITHIN)
        .ok_or_else(|| "it is a time with a unit, such as 60s or 10m, up to 1h".to_owned())
}
