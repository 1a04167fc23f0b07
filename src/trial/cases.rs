//! The cases, read from a table; adding one there is enough, unless it needs a form
//! or a signature that `forge` does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

const TOKENS: &str = include_str!("tokens.json");

/// Changes to the members of a JSON object: null removes one, `@…` is JSON that JSON
/// has no value for, and `$…` stands for a value of the run; see `forge`.
pub(super) type Patch = BTreeMap<String, Value>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// Choice of the verifier's owner.
    Policy,
    /// Advice of an RFC.
    Should,
    /// Demand of an RFC.
    Must,
}

impl Grade {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Should => "should",
            Self::Must => "must",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expected {
    Accept,
    #[default]
    Refuse,
    /// Either of them; only a crash, an error or silence is a finding.
    Any,
}

/// A token that differs from a good one in one respect.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Never changes: users keep it in their lists of known findings.
    pub id: String,
    pub grade: Grade,
    /// Section that the grade comes from.
    pub rfc: String,
    pub what: String,
    /// Sentence of the group on how to mend a finding.
    #[serde(skip)]
    pub mend: String,
    #[serde(default)]
    pub(super) expect: Expected,
    #[serde(default)]
    needs_audience: bool,
    #[serde(default)]
    pub(super) header: Patch,
    /// Members given once more, before or after all others.
    #[serde(default)]
    pub(super) header_first: Patch,
    #[serde(default)]
    pub(super) header_last: Patch,
    /// The whole header, in place of an object.
    pub(super) header_text: Option<String>,
    #[serde(default)]
    pub(super) claims: Patch,
    #[serde(default)]
    pub(super) claims_first: Patch,
    #[serde(default)]
    pub(super) claims_last: Patch,
    pub(super) claims_text: Option<String>,
    /// Kind of signature; RS256 by the first key when there is none.
    pub(super) sign: Option<String>,
    /// Change of the finished token's text.
    pub(super) form: Option<String>,
}

impl Case {
    /// True when it is about `aud`, which good tokens must have then.
    pub fn needs_audience(&self) -> bool {
        self.needs_audience
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(rename = "group")]
    _name: String,
    mend: String,
    cases: Vec<Case>,
}

/// The cases of the stage `tokens`, in the table's order.
pub fn tokens() -> Result<Vec<Case>, serde_json::Error> {
    let groups: Vec<Group> = serde_json::from_str(TOKENS)?;
    let cases = groups.into_iter().flat_map(|group| {
        let mend = group.mend;
        group.cases.into_iter().map(move |case| Case {
            mend: mend.clone(),
            ..case
        })
    });
    Ok(cases.collect())
}
