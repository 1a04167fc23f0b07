//! `verify`: the checks of a verifier, step by step. Reads the token and a key
//! set; the checks themselves are `domain::verification`.

mod render;
mod source;

use std::time::Duration;

use std::path::Path;

use clap::Args;

use super::{Failure, print};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::verification::{self, Cause, Expectations, Step};
use source::{Given, Sources};
pub(super) use source::{MAX_TOKEN, bounded, fetch_set, unwrapped};

/// A verifier should allow for a few minutes at most (RFC 7519 section 4.1.4).
const MAX_LEEWAY: Duration = Duration::from_secs(5 * 60);

pub(super) const EXIT_CODES: &str = "\
The first step that fails decides; the later ones are shown where they are possible.

Exit codes:
   0  verified
   1  the output could not be written
   2  wrong usage, or the token or the key set could not be read
  10  malformed: not a signed JWT, a crit header, exp missing, or a time that is not a number
  11  algorithm: alg is not RS256
  12  type: typ is present and not JWT
  13  unknown key: no kid, or it is not in the set
  14  unfit key: kty, use, key_ops, alg or size forbid it, it is a private key, or two keys have the kid
  15  signature: changed, or signed by another key
  16  expired: exp and the leeway have passed
  17  not yet valid: nbf or iat is further ahead than the leeway
  18  issuer: iss is not the expected one
  19  audience: aud does not contain the expected one";

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The token, perhaps after Bearer, or a whole answer of /auth; or - to read it from standard input, hidden from other users of the machine
    #[arg(value_name = "TOKEN")]
    token: String,
    /// Refused with a message of our own: clap's would repeat what may be a token.
    #[arg(hide = true, num_args = 0..)]
    unexpected: Vec<String>,
    /// The key set: an http or https URL, a file, or - for standard input [default: the service on this machine, by HOST and PORT]
    #[arg(long, value_name = "URL|FILE")]
    jwks: Option<String>,
    /// Expected iss [default: ISSUER with the default key set; not checked with another]
    #[arg(long, value_name = "TEXT")]
    issuer: Option<String>,
    /// Expected in aud [default: AUDIENCE with the default key set; not checked with another]
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,
    /// Tolerated difference between the clocks, at most 5m
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = leeway)]
    leeway: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: VerifyArgs, env_file: Option<&Path>) -> Result<(), Failure> {
    let given = match &args.unexpected[..] {
        [] => args.token,
        [token] if args.token.eq_ignore_ascii_case("bearer") => format!("Bearer {token}"),
        _ => {
            return Err(Failure::refused(
                "more than one TOKEN: a token has no spaces",
            ));
        }
    };
    let sources = Sources::new(given, args.jwks, env_file.map(Path::to_owned))?;
    let Given { token, taken_off } = sources.token()?;
    let fetched = sources.key_set()?;
    let expected = Expectations {
        issuer: args.issuer.or(fetched.issuer),
        audience: args.audience.or(fetched.audience),
        leeway: args.leeway,
    };
    let now = SystemClock::new().now();
    let mut steps = verification::verify(&token, &fetched.set, &expected, now);
    if !taken_off.is_empty() {
        steps.insert(
            0,
            Step::passed("input", format!("without {}", taken_off.join(" and "))),
        );
    }
    let shown = verification::contents(&token);
    let cause = verification::cause(&steps);
    let code = cause.map_or(0, exit_code);
    let report = render::VerificationReport {
        steps: &steps,
        contents: shown,
        cause,
        code,
        now,
    };
    print(&if args.json {
        report.json()
    } else {
        report.lines()
    })?;
    match cause {
        None => Ok(()),
        Some(cause) => Err(Failure {
            text: format!("the token is not verified: {}", cause.name()),
            code,
        }),
    }
}

/// As in [`EXIT_CODES`]; programs rely on them.
const fn exit_code(cause: Cause) -> u8 {
    match cause {
        Cause::Malformed => 10,
        Cause::Algorithm => 11,
        Cause::Type => 12,
        Cause::UnknownKey => 13,
        Cause::UnfitKey => 14,
        Cause::Signature => 15,
        Cause::Expired => 16,
        Cause::NotYetValid => 17,
        Cause::Issuer => 18,
        Cause::Audience => 19,
    }
}

fn leeway(text: &str) -> Result<Duration, String> {
    let value = humantime::parse_duration(text)
        .map_err(|_| "it is a time with a unit, such as 0s, 60s or 2m".to_owned())?;
    if value.subsec_nanos() != 0 || value > MAX_LEEWAY {
        return Err("it is whole seconds, at most 5m".to_owned());
    }
    Ok(value)
}
