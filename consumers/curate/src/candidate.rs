//! Candidates for the replay set: groups that were trained and may be trained again.

use std::fmt;

use serde::{Deserialize, Serialize};
use vintage_control::PolicyVersion;

use crate::error::{Error, Result};

/// Id of a candidate: the 16 bytes of its group's id. In text it is 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CandidateId(pub [u8; 16]);

impl fmt::Display for CandidateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for CandidateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<CandidateId> for String {
    fn from(id: CandidateId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for CandidateId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(&text, 16).ok().filter(|_| digits);
        let number = number.ok_or_else(|| format!("`{text}` is not 32 hexadecimal digits"))?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// Group of rollouts of one prompt, as far as its choice depends on it.
///
/// All of it is known when the group is trained and does not change afterwards. The learner's
/// current loss on a group is left out on purpose: it changes with every update, and no structure
/// can keep a set for an objective that changes under it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Id of the group.
    pub id: CandidateId,
    /// Id of the prompt.
    pub prompt: String,
    /// Newest version that sampled any token of the group.
    pub version: PolicyVersion,
    /// Mean reward of the rows.
    pub mean_reward: f64,
    /// Share of rows that are correct, from 0 to 1.
    pub correct: f64,
    /// Mean number of completion tokens of the rows.
    pub mean_length: f64,
    /// Mean magnitude of the rows' advantages, or another measure of the spread of the rewards.
    pub spread: f64,
    /// Vector that says what the group is like, for [`FacilityLocation`](crate::FacilityLocation);
    /// empty for the other objectives.
    pub sketch: Vec<f32>,
}

/// Features of a group: bins by which groups count as alike, and a weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Features {
    /// Hash of the prompt.
    pub prompt: u64,
    /// Bin of the outcome: the quarter of the share of correct rows, joined with the quarter of the
    /// mean reward. For rewards of 0 and 1 the second says the same as the first.
    pub outcome: u64,
    /// Bin of the mean length: lengths between two powers of two are alike.
    pub length: u64,
    /// Weight of the group before decay: its spread.
    pub weight: f64,
}

impl Features {
    /// Returns the features of a group.
    ///
    /// A group whose rewards are all equal has advantages of 0: it teaches nothing under GRPO, so
    /// its weight is 0 and no objective ever gains by it. Decay with age is applied by the
    /// [`Curator`](crate::Curator), by the group's version.
    ///
    /// # Errors
    /// [`Error::Value`] for a number that is not finite, or out of its range.
    pub fn of(candidate: &Candidate) -> Result<Self> {
        let id = candidate.id;
        let refuse = |what, value, range| Error::Value {
            id,
            what,
            value,
            range,
        };
        let Candidate {
            mean_reward,
            correct,
            mean_length,
            spread,
            ..
        } = *candidate;
        if !mean_reward.is_finite() {
            return Err(refuse("mean reward", mean_reward, "finite"));
        }
        if !(0.0..=1.0).contains(&correct) {
            return Err(refuse("share of correct rows", correct, "from 0 to 1"));
        }
        for (what, value) in [("mean length", mean_length), ("spread", spread)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(refuse(what, value, "at least 0 and finite"));
            }
        }
        // Rewards have no scale of their own; beyond ±8 they share a bin.
        let reward = ((mean_reward * 4.0).floor().clamp(-32.0, 32.0) + 32.0) as u64;
        let quarter = (correct * 4.0).floor() as u64;
        Ok(Self {
            prompt: hash(candidate.prompt.as_bytes()),
            outcome: quarter * 100 + reward,
            length: u64::from((mean_length as u64).saturating_add(1).ilog2()),
            weight: spread,
        })
    }
}

/// Returns the 64-bit FNV-1a hash of some bytes: the same on every machine and in every build.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
