//! A score card: named checks with points, all of which must be earned.

use std::fmt;

pub struct Card {
    project: u8,
    checks: Vec<Check>,
}

struct Check {
    points: u32,
    name: &'static str,
    /// The value seen, and the one wanted.
    fault: Option<String>,
}

impl Card {
    pub fn new(project: u8) -> Self {
        Self {
            project,
            checks: Vec::new(),
        }
    }

    /// Earns the points when `seen` is what is wanted.
    pub fn equal<T: PartialEq + fmt::Debug>(
        &mut self,
        points: u32,
        name: &'static str,
        seen: T,
        wanted: T,
    ) {
        let fault = (seen != wanted).then(|| format!("{seen:?} instead of {wanted:?}"));
        self.checks.push(Check {
            points,
            name,
            fault,
        });
    }

    #[track_caller]
    pub fn assert_full(&self, points: u32) {
        let possible: u32 = self.checks.iter().map(|check| check.points).sum();
        let earned: u32 = self
            .checks
            .iter()
            .filter(|check| check.fault.is_none())
            .map(|check| check.points)
            .sum();
        assert_eq!((earned, possible), (points, points), "{self}");
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nproject {}", self.project)?;
        for check in &self.checks {
            match &check.fault {
                None => writeln!(f, "  {0:>2}/{0:<2}  {1}", check.points, check.name)?,
                Some(fault) => {
                    writeln!(f, "   0/{:<2}  {}: {fault}", check.points, check.name)?;
                }
            }
        }
        Ok(())
    }
}
