//! Output of `verify`.

use serde_json::{Value, json};

use crate::cli::terminal::{document, escaped};
use crate::clock::{Moment, UnixTime};
use crate::domain::verification::{Cause, Outcome, Step};

pub(super) struct VerificationReport<'a> {
    pub(super) steps: &'a [Step],
    /// Header and claims, if the token has the form of one.
    pub(super) contents: Option<(Value, Value)>,
    pub(super) cause: Option<Cause>,
    pub(super) code: u8,
    pub(super) now: UnixTime,
}

impl VerificationReport<'_> {
    pub(super) fn json(self) -> String {
        let steps: Vec<_> = self.steps.iter().map(step_json).collect();
        let (header, claims) = self.contents.unwrap_or_default();
        document(&json!({
            "verified": self.cause.is_none(),
            "cause": self.cause.map(Cause::name),
            "exit_code": self.code,
            "now": Moment::from(self.now),
            "steps": steps,
            "header": header,
            "claims": claims,
        }))
    }

    pub(super) fn lines(self) -> String {
        let mut lines: String = self
            .steps
            .iter()
            .map(|step| format!("{:<5} {:<10}  {}\n", result(step), step.name, step.detail))
            .collect();
        if let Some((header, claims)) = &self.contents {
            for (name, value) in [("header", header), ("claims", claims)] {
                lines += &format!("{name:<17} {}\n", escaped(&value.to_string()));
            }
        }
        format!("{lines}{}\n", self.verdict())
    }

    fn verdict(&self) -> String {
        if let Some(cause) = self.cause {
            return format!("NOT VERIFIED: {}", cause.name());
        }
        let skipped: Vec<_> = self
            .steps
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
