//! The findings of a command with many checks, as lines for people or JSON for programs.

use serde_json::{Value, json};
use strum::AsRefStr;

use super::{Failure, print, terminal};
use crate::trial::key_set;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, AsRefStr)]
#[strum(serialize_all = "snake_case")]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// Width of the columns before what was found.
const INDENT: usize = 22;

struct Finding {
    level: Level,
    check: &'static str,
    found: String,
    advice: Option<String>,
}

#[derive(Default)]
pub(super) struct Report(Vec<Finding>);

impl Report {
    pub(super) fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(Level::Ok, check, found.into(), None);
    }

    /// It works, but `advice` should be followed.
    pub(super) fn warn(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Level::Warn, check, found.into(), Some(advice.into()));
    }

    /// It does not work until `advice` is followed.
    pub(super) fn fail(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Level::Fail, check, found.into(), Some(advice.into()));
    }

    /// Findings of `crate::trial` about a key set.
    pub(super) fn extend(&mut self, findings: key_set::Findings) {
        for (check, finding) in findings {
            match finding {
                key_set::Finding::Ok(found) => self.ok(check, found),
                key_set::Finding::Warn(found, advice) => self.warn(check, found, advice),
                key_set::Finding::Fail(found, advice) => self.fail(check, found, advice),
            }
        }
    }

    /// Prints all findings; an error when something failed.
    pub(super) fn finish(&self, as_json: bool) -> Result<(), Failure> {
        print(&self.render(as_json))?;
        let failed = self.0.iter().filter(|f| f.level == Level::Fail);
        match failed.count() {
            0 => Ok(()),
            1 => Err(Failure::broken("a check has failed")),
            n => Err(Failure::broken(format!("{n} checks have failed"))),
        }
    }

    pub(super) fn render(&self, as_json: bool) -> String {
        if as_json {
            let worst = self.0.iter().map(|f| f.level).max().unwrap_or(Level::Ok);
            let findings: Vec<_> = self.0.iter().map(Finding::json).collect();
            let document = json!({ "result": worst.as_ref(), "findings": findings });
            return format!("{document:#}\n");
        }
        self.0.iter().map(Finding::line).collect()
    }

    fn add(&mut self, level: Level, check: &'static str, found: String, advice: Option<String>) {
        // Paths, server responses and what the database holds may have any characters.
        let on_one_line = |text: String| terminal::plain(&text.replace('\n', " "));
        self.0.push(Finding {
            level,
            check,
            found: on_one_line(found),
            advice: advice.map(on_one_line),
        });
    }
}

impl Finding {
    fn line(&self) -> String {
        let advice = self.advice.as_ref();
        let advice = advice.map_or(String::new(), |advice| format!(" -> {advice}"));
        let (level, check, found) = (self.level.as_ref(), self.check, &self.found);
        let text = format!("{level:<4}  {check:<14}  {found}{advice}");
        terminal::line(&text, INDENT, terminal::columns())
    }

    fn json(&self) -> Value {
        json!({
            "result": self.level.as_ref(),
            "check": self.check,
            "found": self.found,
            "advice": self.advice,
        })
    }
}
