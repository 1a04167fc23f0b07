//! What was found, line by line, for people and for programs.

use serde_json::{Value, json};

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

struct Finding {
    level: Level,
    check: &'static str,
    found: String,
    advice: Option<String>,
}

/// All findings, in the order in which they were made.
#[derive(Default)]
pub(super) struct Report(Vec<Finding>);

impl Report {
    /// All is well.
    pub(super) fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(Level::Ok, check, found.into(), None);
    }

    /// It works, but somebody should do `advice`.
    pub(super) fn warn(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Level::Warn, check, found.into(), Some(advice.into()));
    }

    /// It does not work until somebody does `advice`.
    pub(super) fn fail(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Level::Fail, check, found.into(), Some(advice.into()));
    }

    /// How many checks failed.
    pub(super) fn failures(&self) -> usize {
        let failed = self.0.iter().filter(|f| f.level == Level::Fail);
        failed.count()
    }

    /// The text to print.
    pub(super) fn render(&self, as_json: bool) -> String {
        if as_json {
            let worst = self.0.iter().map(|f| f.level).max().unwrap_or(Level::Ok);
            let findings: Vec<_> = self.0.iter().map(Finding::json).collect();
            let document = json!({ "result": worst.name(), "findings": findings });
            return format!("{document:#}\n");
        }
        self.0.iter().map(Finding::line).collect()
    }

    fn add(&mut self, level: Level, check: &'static str, found: String, advice: Option<String>) {
        // Paths and answers of servers may have anything in them.
        let on_one_line = |text: String| text.replace(char::is_control, " ");
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
        let (level, check, found) = (self.level.name(), self.check, &self.found);
        format!("{level:<4}  {check:<13}  {found}{advice}\n")
    }

    fn json(&self) -> Value {
        json!({
            "result": self.level.name(),
            "check": self.check,
            "found": self.found,
            "advice": self.advice,
        })
    }
}
