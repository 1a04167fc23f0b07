//! Output of `verify`.

use serde_json::{Value, json};

use crate::clock::{Moment, UnixTime};
use crate::domain::verification::{Cause, Outcome, Step};

pub(super) fn report(
    steps: &[Step],
    cause: Option<Cause>,
    code: u8,
    now: UnixTime,
    as_json: bool,
) -> String {
    if as_json {
        let steps: Vec<_> = steps.iter().map(step_json).collect();
        let document = json!({
            "verified": cause.is_none(),
            "cause": cause.map(Cause::name),
            "exit_code": code,
            "now": Moment::from(now),
            "steps": steps,
        });
        return format!("{document:#}\n");
    }
    let lines: String = steps
        .iter()
        .map(|step| format!("{:<5} {:<10}  {}\n", result(step), step.name, step.detail))
        .collect();
    format!("{lines}{}\n", verdict(steps, cause))
}

fn verdict(steps: &[Step], cause: Option<Cause>) -> String {
    if let Some(cause) = cause {
        return format!("NOT VERIFIED: {}", cause.name());
    }
    let skipped: Vec<_> = steps
        .iter()
        .filter(|step| step.outcome == Outcome::Skipped)
        .map(|step| step.name)
        .collect();
    if skipped.is_empty() {
        "verified".to_owned()
    } else {
        format!("verified (not checked: {})", skipped.join(", "))
    }
}

fn step_json(step: &Step) -> Value {
    json!({ "step": step.name, "result": result(step), "detail": step.detail })
}

const fn result(step: &Step) -> &'static str {
    match step.outcome {
        Outcome::Passed => "ok",
        Outcome::Skipped => "skip",
        Outcome::Failed(_) => "fail",
    }
}
