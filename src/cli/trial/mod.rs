//! `trial`: puts a verifier through the cases of `crate::trial`, and reports.

mod args;
mod formats;
mod report;

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Map, Value};

pub(super) use args::TrialArgs;
use report::{Known, TrialReport, line};

use super::terminal::escaped;
use super::{Failure, fetch, print, terminal};
use crate::clock::SystemClock;
use crate::config;
use crate::trial::{
    Bound, Case, Codes, Forge, Judge, KEY_SET, Outcome, Place, TIMEOUT, Target, Trial, TrialError,
    cases, most_tokens,
};

/// Port of the issuer, unless --listen gives another or a command is told of it.
const PORT: u16 = 8790;
const FINDINGS: u8 = 1;
const CONTROLS: u8 = 2;
const NOT_RUN: u8 = 3;

pub(super) const EXIT_CODES: &str = "\
The trial makes an issuer with fresh keys in memory, sends good and bad tokens to the verifier, one after the other, and stops by itself.
Each bad token differs from a good one in one respect; a good one goes before and after each.

Grades: must (an RFC demands it), should (an RFC advises it), policy (the owner's choice).
Verdicts: accepted, refused, error (a status that is neither), crash, no answer, says nothing (a good token beside it was refused).

A command finds the address of the issuer in TRIAL_ISSUER, that of its key set in TRIAL_JWKS, and --audience in TRIAL_AUDIENCE.

Exit codes:
   0  no finding of the grade that fails
   1  findings
   2  good tokens were not accepted, so nothing can be said; or wrong usage
   3  the trial could not run, as when the verifier cannot be reached";

impl From<TrialError> for Failure {
    fn from(error: TrialError) -> Self {
        let code = match error {
            TrialError::Controls(_) => CONTROLS,
            _ => NOT_RUN,
        };
        Self {
            text: error.to_string(),
            code,
        }
    }
}

pub(super) fn run(args: &TrialArgs) -> Result<(), Failure> {
    let cases = cases().map_err(|e| TrialError::Table(e.to_string()))?;
    let known = args
        .known
        .as_deref()
        .map_or(Ok(Known::new()), |path| known(path, &cases))?;
    let claims = args.claims.as_deref().map_or(Ok(Map::new()), claims)?;
    let chosen = chosen(args, &cases)?;
    let port = if args.command.is_some() { 0 } else { PORT };
    let listen = args.listen.unwrap_or((Ipv4Addr::LOCALHOST, port).into());
    let bound = Bound::new(listen)?;
    let url = format!("http://{}", bound.addr);
    let issuer = args.issuer.clone().unwrap_or_else(|| url.clone());
    let (target, name) = target(args, &url, &issuer)?;
    let forge = Forge::new(
        issuer,
        args.audience.clone(),
        claims,
        bound.elsewhere_url.clone(),
    )?;
    let issuer = bound.serve(&forge, &url)?;
    let mut trial = Trial {
        forge: &forge,
        issuer: &issuer,
        target: &target,
        judge: judge(args),
        within: args.within,
        clock: SystemClock::new(),
    };
    if args.is_for_people() {
        print(&plan(args, &chosen, &name, forge.issuer(), &url))?;
    }
    let outcomes = tried(&mut trial, args, &chosen, &known)?;
    let report = TrialReport {
        target: name,
        outcomes: &outcomes,
        known: &known,
        fails: args.grade,
    };
    hand_out(&report, args)?;
    verdict(&report)
}

/// Lines that say before the run what it will do.
fn plan(args: &TrialArgs, chosen: &[&Case], name: &str, issuer: &str, url: &str) -> String {
    let tokens = chosen.iter().map(|case| most_tokens(case, args.within));
    let (count, tokens) = (chosen.len(), 2 + tokens.sum::<usize>());
    let waits = match chosen.iter().any(|case| case.waits()) {
        true => format!(
            "each change of the keys is waited for up to {}\n",
            humantime::format_duration(args.within)
        ),
        false => String::new(),
    };
    let seconds = TIMEOUT.as_secs();
    format!(
        "{count} cases, at most {tokens} tokens and {seconds} s for each, to {name}\nissuer {issuer}, key set {url}{KEY_SET}\n{waits}"
    )
}

/// Tries the cases, and prints each for people as soon as it was tried.
fn tried<'a>(
    trial: &mut Trial<'_>,
    args: &TrialArgs,
    chosen: &[&'a Case],
    known: &Known,
) -> Result<Vec<Outcome<'a>>, Failure> {
    let colour = std::io::stdout().is_terminal() && config::terminal::allows_colors();
    let mut printed = Ok(());
    let progress = Progress::new(chosen.len());
    let begin = |number, case: &Case| progress.show(number, case);
    let tell = |outcome: &Outcome<'_>| {
        progress.clear();
        if args.is_for_people() && printed.is_ok() {
            let line = line(outcome, known, args.grade, colour);
            let columns = terminal::columns();
            printed = print(&terminal::line(line.trim_end(), INDENT, columns));
        }
    };
    let outcomes = trial.run(chosen, begin, tell)?;
    printed?;
    Ok(outcomes)
}

fn hand_out(report: &TrialReport<'_>, args: &TrialArgs) -> Result<(), Failure> {
    if let Some(path) = &args.junit {
        write(path, &report.junit())?;
    }
    if let Some(path) = &args.sarif {
        write(path, &report.sarif())?;
    }
    print(&if args.json {
        escaped(&report.json()).into_owned()
    } else if args.markdown {
        report.markdown()
    } else {
        let (lines, columns) = (report.summary(), terminal::columns());
        let indent = |it: &str| it.len() - it.trim_start().len();
        let lines = lines
            .lines()
            .map(|it| terminal::line(it, indent(it), columns));
        lines.collect()
    })
}

fn verdict(report: &TrialReport<'_>) -> Result<(), Failure> {
    if report.has_failed() {
        return Err(Failure {
            text: "the verifier has findings".to_owned(),
            code: FINDINGS,
        });
    }
    if report.says_nothing() {
        return Err(Failure {
            text: "too few cases say anything: the verifier went on refusing good tokens, or did not answer".to_owned(),
            code: CONTROLS,
        });
    }
    Ok(())
}

/// Width of the columns before what a case is.
const INDENT: usize = 49;

/// Last line of a terminal: the case that is being tried. A stage may take minutes.
struct Progress {
    cases: usize,
    is_shown: bool,
}

impl Progress {
    fn new(cases: usize) -> Self {
        let is_shown = std::io::stderr().is_terminal();
        Self { cases, is_shown }
    }

    fn show(&self, number: usize, case: &Case) {
        self.write(&format!("{}/{} {}", number + 1, self.cases, case.id));
    }

    fn clear(&self) {
        self.write("");
    }

    fn write(&self, text: &str) {
        if self.is_shown {
            // A terminal that went away ends no trial.
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
        }
    }
}

/// The verifier, and its name for people.
fn target(args: &TrialArgs, url: &str, issuer: &str) -> Result<(Target, String), Failure> {
    if let Some(line) = &args.command {
        let env = vec![
            ("TRIAL_ISSUER", issuer.to_owned()),
            ("TRIAL_JWKS", format!("{url}{KEY_SET}")),
            ("TRIAL_AUDIENCE", args.audience.clone().unwrap_or_default()),
        ];
        let line = line.clone();
        return Ok((Target::Command { line, env }, "the command".to_owned()));
    }
    let url = args.url.clone().unwrap_or_default();
    if !args.yes_i_may && !fetch::is_on_this_machine(&url) {
        return Err(refused(
            "the verifier is not on this machine: add --yes-i-may if you may try it",
        ));
    }
    let agent = fetch::agent_without_redirects(&url, TIMEOUT)
        .map_err(|why| refused(format!("--url: {why}")))?;
    let places = [
        (&args.header, Place::Header as fn(String) -> Place),
        (&args.cookie, Place::Cookie),
        (&args.query, Place::Query),
        (&args.form, Place::Form),
    ];
    let given = places
        .into_iter()
        .find_map(|(name, place)| Some(place(name.clone()?)));
    let place = given.unwrap_or(Place::Bearer);
    let name = url.clone();
    Ok((Target::Url { agent, url, place }, name))
}

fn judge(args: &TrialArgs) -> Judge {
    let is_command = args.command.is_some();
    let (accept, refuse) = if is_command {
        (0..=0, 1..=1)
    } else {
        (200..=299, 400..=499)
    };
    Judge {
        accept: args.accept.clone().unwrap_or(Codes::from(accept)),
        refuse: args.refuse.clone().unwrap_or(Codes::from(refuse)),
        is_command,
    }
}

fn chosen<'a>(args: &TrialArgs, cases: &'a [Case]) -> Result<Vec<&'a Case>, Failure> {
    for id in args.only.iter().chain(&args.except) {
        if !cases.iter().any(|case| case.id == *id) {
            return Err(refused(format!("no case has the id {id:?}")));
        }
    }
    let is_chosen = |case: &&Case| {
        (args.only.is_empty() || args.only.contains(&case.id))
            && !args.except.contains(&case.id)
            && args.stages.contains(&case.stage())
            && (args.audience.is_some() || !case.needs_audience)
    };
    let chosen: Vec<_> = cases.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        return Err(refused("no case is left to try; see --stages and --only"));
    }
    Ok(chosen)
}

/// Lines of an id and a reason; `#` begins a comment.
fn known(path: &Path, cases: &[Case]) -> Result<Known, Failure> {
    let mut known = Known::new();
    let lines = read(path)?;
    for line in lines.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (id, reason) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if reason.trim().is_empty() {
            return Err(refused(format!("--known: {id:?} has no reason")));
        }
        if !cases.iter().any(|case| case.id == id) {
            return Err(refused(format!("--known: no case has the id {id:?}")));
        }
        known.insert(id.to_owned(), reason.trim().to_owned());
    }
    Ok(known)
}

fn claims(path: &Path) -> Result<Map<String, Value>, Failure> {
    serde_json::from_str(&read(path)?).map_err(|_| refused("--claims: it is not a JSON object"))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|e| refused(format!("{}: {e}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|e| refused(format!("{}: {e}", path.display())))
}

fn refused(text: impl Into<String>) -> Failure {
    Failure {
        text: text.into(),
        code: NOT_RUN,
    }
}
