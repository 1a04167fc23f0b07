//! The cases, read from a table; adding one there is enough, unless it needs a form
//! or a signature that `forge` does not know.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use strum::{EnumString, IntoStaticStr, VariantNames};

const TOKENS: &str = include_str!("tokens.json");
const SETS: &str = include_str!("sets.json");
const WALKS: &str = include_str!("walks.json");

/// Changes to the members of a JSON object: null removes one, `@…` is JSON that JSON
/// has no value for, and `$…` stands for a value of the run; see `forge`.
pub(super) type Patch = BTreeMap<String, Value>;

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Grade {
    /// Choice of the verifier's owner.
    Policy,
    /// Advice of an RFC.
    Should,
    /// Demand of an RFC.
    Must,
}

impl Grade {
    /// The highest first, as reports and the help list them.
    pub const ALL: [Self; 3] = [Self::Must, Self::Should, Self::Policy];

    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expected {
    Accept,
    #[default]
    Refuse,
    /// To refuse or, as no key can be had, to fail in any other way.
    Fail,
    /// Either of them; only a crash, an error or silence is a finding.
    Any,
}

/// A token that differs from a good one in one respect, or a key set that does.
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
    /// True when it is about `aud`, which good tokens must have then.
    #[serde(default)]
    pub needs_audience: bool,
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
    /// A good token is sent while this is served.
    pub(super) set: Option<Set>,
    /// What happens over time, in place of one token.
    pub(super) walk: Option<Walk>,
}

/// Answer to a request for the key set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Set {
    /// JWKs; the member `$` names one of the trial's keys, of which the others are changes.
    #[serde(default)]
    pub(super) keys: Vec<Patch>,
    /// Other members of the set.
    #[serde(default)]
    pub(super) members: Patch,
    /// The whole body, in place of a set.
    pub(super) body: Option<String>,
    /// Bytes of white space after the body.
    #[serde(default)]
    pub(super) padding: usize,
    #[serde(default = "ok")]
    pub(super) status: u16,
    #[serde(default = "json")]
    pub(super) r#type: String,
    pub(super) location: Option<String>,
    /// Seconds before the answer.
    #[serde(default)]
    pub(super) delay: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Walk {
    Flood,
    Outage,
    Rotation,
    Emergency,
}

const fn ok() -> u16 {
    200
}

fn json() -> String {
    "application/json".to_owned()
}

impl Case {
    /// True when it waits for a verifier to follow changes of the key set.
    pub fn waits(&self) -> bool {
        self.walk.is_some()
    }

    /// True when it is a good token that must be accepted.
    pub(super) fn is_good(&self) -> bool {
        self.expect == Expected::Accept
    }

    pub const fn stage(&self) -> TrialStage {
        match (self.walk, &self.set) {
            (None, None) => TrialStage::Tokens,
            (None, Some(_)) => TrialStage::Sets,
            (Some(Walk::Flood), _) => TrialStage::Flood,
            (Some(Walk::Outage), _) => TrialStage::Outage,
            (Some(Walk::Rotation), _) => TrialStage::Rotation,
            (Some(Walk::Emergency), _) => TrialStage::Emergency,
        }
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

/// All but the first are for verifiers that fetch the key set for an unknown kid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum TrialStage {
    Tokens,
    Sets,
    Flood,
    Outage,
    Rotation,
    Emergency,
}

/// The cases of all stages, in the tables' order.
pub fn cases() -> Result<Vec<Case>, serde_json::Error> {
    let mut groups = Vec::new();
    for table in [TOKENS, SETS, WALKS] {
        groups.extend(serde_json::from_str::<Vec<Group>>(table)?);
    }
    let cases = groups.into_iter().flat_map(|group| {
        let mend = group.mend;
        group.cases.into_iter().map(move |case| Case {
            mend: mend.clone(),
            ..case
        })
    });
    Ok(cases.collect())
}
