//! Reports for other programs: JUnit's XML, SARIF 2.1.0, and Markdown.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::report::TrialReport;
use crate::trial::{Grade, Outcome, Verdict};

impl TrialReport<'_> {
    /// A test case for each case: the findings that fail the run are failures, a case
    /// that says nothing and an accepted finding are skipped.
    pub(super) fn junit(&self) -> String {
        let mut cases = String::new();
        let (mut failures, mut skipped) = (0, 0);
        for outcome in self.outcomes {
            let (case, verdict) = (outcome.case, outcome.verdict.name());
            let (rfc, mend) = outcome.advice();
            let says = format!(
                "{verdict}: {} ({}, {rfc})",
                case.what,
                outcome.grade().name()
            );
            let inner = match (outcome.finding, self.known.get(&case.id)) {
                (Some(_), Some(reason)) => {
                    skipped += 1;
                    element("skipped", &format!("accepted: {reason}"), "")
                }
                (Some(grade), None) if grade >= self.fails => {
                    failures += 1;
                    let body = format!("it said: {}\nto mend: {mend}", outcome.detail);
                    element("failure", &says, &body)
                }
                _ if outcome.verdict == Verdict::SaysNothing => {
                    skipped += 1;
                    element("skipped", &format!("{verdict}: {}", outcome.detail), "")
                }
                _ => element(
                    "system-out",
                    "",
                    &format!("{says}; it said: {}", outcome.detail),
                ),
            };
            let stage: &str = case.stage().into();
            // Writing to a string does not fail.
            let _ = writeln!(
                cases,
                "  <testcase classname=\"trial.{stage}\" name=\"{}\">{inner}</testcase>",
                xml(&case.id)
            );
        }
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"trial\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\">\n{cases}</testsuite>\n",
            self.outcomes.len()
        )
    }

    /// A rule for each case and a result for each finding.
    pub(super) fn sarif(&self) -> String {
        let rules: Value = self.outcomes.iter().map(rule).collect();
        let results: Value = self
            .outcomes
            .iter()
            .filter_map(|it| self.result(it))
            .collect();
        let driver = json!({
            "name": "jwks-server trial", "version": env!("CARGO_PKG_VERSION"), "rules": rules,
        });
        let document = json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{ "tool": { "driver": driver }, "results": results }],
        });
        format!("{document:#}\n")
    }

    fn result(&self, outcome: &Outcome<'_>) -> Option<Value> {
        let case = outcome.case;
        let (verdict, grade) = (outcome.verdict.name(), outcome.finding?);
        let (rfc, mend) = outcome.advice();
        let text = format!(
            "{verdict}: {} ({rfc}). It said: {}. {mend}",
            case.what, outcome.detail
        );
        let location = json!({ "fullyQualifiedName": self.target, "kind": "resource" });
        let known = self.known.get(&case.id);
        let suppression = |reason| json!({ "kind": "external", "justification": reason });
        Some(json!({
            "ruleId": case.id,
            "level": level(grade),
            "message": { "text": text },
            "locations": [{ "logicalLocations": [location] }],
            "suppressions": known.into_iter().map(suppression).collect::<Value>(),
        }))
    }

    /// A table of the findings, and the counts.
    pub(super) fn markdown(&self) -> String {
        let findings: Vec<_> = self
            .outcomes
            .iter()
            .filter(|it| it.finding.is_some())
            .collect();
        let mut text = format!("# Trial of {}\n\n{}\n", cell(&self.target), self.counts());
        if !findings.is_empty() {
            text += "\n| case | grade | verdict | finding | it said | to mend |\n| --- | --- | --- | --- | --- | --- |\n";
        }
        for outcome in findings {
            let case = outcome.case;
            let (rfc, mend) = outcome.advice();
            let mend = match self.known.get(&case.id) {
                Some(reason) => format!("accepted: {reason}"),
                None => mend.to_owned(),
            };
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "| {} | {} ({}) | {} | {} | {} | {} |",
                case.id,
                outcome.grade().name(),
                rfc,
                outcome.verdict.name(),
                cell(&case.what),
                cell(&outcome.detail),
                cell(&mend)
            );
        }
        text
    }
}

fn rule(outcome: &Outcome<'_>) -> Value {
    let case = outcome.case;
    json!({
        "id": case.id,
        "shortDescription": { "text": case.what },
        "help": { "text": format!("{}. {}", case.rfc, case.mend) },
        "defaultConfiguration": { "level": level(case.grade) },
    })
}

const fn level(grade: Grade) -> &'static str {
    match grade {
        Grade::Must => "error",
        Grade::Should => "warning",
        Grade::Policy => "note",
    }
}

fn element(name: &str, message: &str, text: &str) -> String {
    let message = match message {
        "" => String::new(),
        message => format!(" message=\"{}\"", xml(message)),
    };
    format!("<{name}{message}>{}</{name}>", xml(text))
}

/// Text of XML 1.0, which has no control characters.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' | ' '..='\u{7e}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'.. => escaped.push(c),
            _ => escaped.push('?'),
        }
    }
    escaped
}

/// Text for one cell of a table, in which a verifier's words are no markup.
fn cell(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let is_link = c == ':' && text[at..].starts_with("://");
        if is_link || "\\`*_[]<>|&~@".contains(c) {
            plain.push('\\');
        }
        plain.push(if c.is_control() { ' ' } else { c });
    }
    plain
}
