//! Reports of a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::trial::{Grade, Outcome, Verdict};

/// Accepted findings: ids of cases with the reasons.
pub(super) type Known = BTreeMap<String, String>;

pub(super) struct TrialReport<'a> {
    pub(super) target: String,
    pub(super) outcomes: &'a [Outcome<'a>],
    pub(super) known: &'a Known,
    /// Lowest grade whose findings fail the run.
    pub(super) fails: Grade,
}

/// One line for a case, as soon as it was tried.
pub(super) fn line(outcome: &Outcome<'_>, known: &Known, fails: Grade, colour: bool) -> String {
    let case = outcome.case;
    let (mark, code) = match outcome.finding {
        Some(_) if known.contains_key(&case.id) => ("known", "2"),
        Some(grade) if grade >= fails => ("FAIL", "31"),
        Some(_) => ("note", "33"),
        None if outcome.verdict == Verdict::SaysNothing => ("?", "2"),
        None => ("ok", "32"),
    };
    let mark = match colour {
        true => format!("\x1b[{code}m{mark:<5}\x1b[0m"),
        false => format!("{mark:<5}"),
    };
    let (verdict, grade) = (outcome.verdict.name(), outcome.grade().name());
    format!(
        "{mark} {verdict:<12} {grade:<6} {:<22} {}\n",
        case.id, case.what
    )
}

impl TrialReport<'_> {
    /// True when a finding that is not known has the grade that fails a run.
    pub(super) fn has_failed(&self) -> bool {
        self.new_findings().any(|(_, grade)| grade >= self.fails)
    }

    /// True when the run was given up, or none of its cases says anything.
    pub(super) fn says_nothing(&self) -> bool {
        let silent = |it: &Outcome<'_>| it.verdict == Verdict::SaysNothing;
        self.outcomes.iter().any(|it| it.gave_up) || self.outcomes.iter().all(silent)
    }

    /// Findings at the end: what each means, and how it is mended.
    pub(super) fn summary(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        for (outcome, grade) in self.new_findings() {
            let (case, verdict) = (outcome.case, outcome.verdict.name());
            let (rfc, mend) = outcome.advice();
            let _ = write!(
                text,
                "\n{} ({}, {}): {verdict}: {}\n  it said: {}\n  to mend: {}\n",
                case.id,
                grade.name(),
                rfc,
                case.what,
                outcome.detail,
                mend
            );
        }
        let _ = writeln!(text, "\n{}", self.counts());
        text
    }

    pub(super) fn counts(&self) -> String {
        let counts: Vec<_> = Grade::ALL
            .map(|grade| format!("{} {}", self.count(grade), grade.name()))
            .into();
        let silent = |it: &&Outcome<'_>| it.verdict == Verdict::SaysNothing;
        format!(
            "{} cases; findings: {}; {} said nothing",
            self.outcomes.len(),
            counts.join(", "),
            self.outcomes.iter().filter(silent).count()
        )
    }

    pub(super) fn json(&self) -> String {
        let case = |outcome: &Outcome<'_>| {
            let case = outcome.case;
            let (rfc, mend) = outcome.advice();
            json!({
                "id": case.id, "grade": outcome.grade().name(), "rfc": rfc, "what": case.what,
                "verdict": outcome.verdict.name(), "detail": outcome.detail,
                "finding": outcome.finding.map(Grade::name),
                "mend": outcome.finding.map(|_| mend),
                "known": outcome.finding.and(self.known.get(&case.id)),
            })
        };
        let cases: Value = self.outcomes.iter().map(case).collect();
        let document = json!({
            "target": self.target,
            "failed": self.has_failed(),
            "findings": {
                "must": self.count(Grade::Must), "should": self.count(Grade::Should),
                "policy": self.count(Grade::Policy),
            },
            "cases": cases,
        });
        format!("{document:#}\n")
    }

    fn count(&self, grade: Grade) -> usize {
        self.new_findings().filter(|(_, is)| *is == grade).count()
    }

    fn new_findings(&self) -> impl Iterator<Item = (&Outcome<'_>, Grade)> {
        let is_new = |it: &&Outcome<'_>| !self.known.contains_key(&it.case.id);
        let new = self.outcomes.iter().filter(is_new);
        new.filter_map(|it| Some((it, it.finding?)))
    }
}
