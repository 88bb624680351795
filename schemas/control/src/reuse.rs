use serde::{Deserialize, Serialize};

use crate::{
    plan::PlannedGroup,
    unit::{PolicyVersion, UpdateNumber},
};

/// Group that an earlier update trained and that a plan trains again. Such a use is not counted
/// among the groups trained, only beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReusedGroup {
    /// Group as the plan of its first update names it.
    pub group: PlannedGroup,
    /// Update that trained the group first.
    pub first_trained: UpdateNumber,
}

/// Ways in which an update uses data more than once, and what holds it back meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reuse {
    /// Number of optimizer steps on the batch.
    #[serde(skip_serializing_if = "is_one")]
    pub passes: u32,
    /// Rule by which groups of earlier updates were chosen; `None` if none may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayRule>,
    /// Penalty on the distance from two earlier versions; `None` without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<KlPenalty>,
    /// True if the optimizer's moments begin anew with this update.
    #[serde(skip_serializing_if = "is_false")]
    pub reset_optimizer: bool,
}

impl Default for Reuse {
    fn default() -> Self {
        Self {
            passes: 1,
            replay: None,
            kl: None,
            reset_optimizer: false,
        }
    }
}

impl Reuse {
    /// Returns true for the settings that a plan without `reuse` has: every group once.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_one(passes: &u32) -> bool {
    *passes == 1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(set: &bool) -> bool {
    !*set
}

/// Rule by which an update chooses groups of earlier updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRule {
    /// Order of preference among the groups of the window.
    pub sampler: Sampler,
    /// Number of latest updates whose groups may be trained again.
    pub window: u64,
}

/// Order in which groups of earlier updates are preferred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Every group of the window alike.
    #[default]
    Uniform,
    /// Groups of the latest updates first.
    Newest,
    /// Groups at random, with a weight of |mean reward| · exp(−age / (window / 2)), the age in updates
    /// (FreshPER, arXiv 2604.16918).
    Priority,
    /// Groups at random, weighted by the mean of |reward − mean reward|: in proportion to the score of TRL's GRPO
    /// with a replay buffer, |advantage| times standard deviation. Groups whose rewards are all equal come last.
    Spread,
    /// A set that covers prompts, outcomes and lengths, kept by a submodular objective.
    Curated,
}

impl Sampler {
    /// Returns the name of the setting's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Newest => "newest",
            Self::Priority => "priority",
            Self::Spread => "spread",
            Self::Curated => "curated",
        }
    }
}

/// Penalty `beta · (share · KL(π ‖ π_reference) + (1 − share) · KL(π ‖ π_previous))` on an update
/// (ReMix's KL-Convex constraint, arXiv 2507.06892).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlPenalty {
    /// Weight of the penalty beside the loss.
    pub beta: f64,
    /// Share λ of the distance from the reference; the rest is that from the previous version.
    pub share: f64,
    /// Version that is the reference.
    pub reference: PolicyVersion,
    /// Version before the one that the update starts from.
    pub previous: PolicyVersion,
}
