//! Ways to use rollouts, and the settings of each.

use serde::Serialize;
use vintage_control::AlgorithmName;

use crate::{
    course,
    error::{Result, require},
    text::as_name,
};

/// Number of groups that every update trains, new and used ones together, but for ways that say otherwise.
const BATCH: u64 = 16;
/// Number of evaluations of a run, beside that of version 0.
const EVALUATIONS: u64 = 20;

/// Ways that are compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// ReMix and its parts against on-policy GRPO.
    Remix,
    /// Choices of the groups that are trained again.
    Samplers,
    /// Another run's archive beside live rollouts.
    Hybrid,
}

/// Comparison with its budget and seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Plan {
    /// Ways that are compared.
    pub comparison: Comparison,
    /// Number of new groups that each run samples, or of those of a run on live rollouts alone.
    pub groups: u64,
    /// First seed.
    pub first_seed: u64,
    /// Number of seeds.
    pub seeds: u64,
    /// Learning rate of all ways but those that are about it.
    pub lr: f64,
}

/// Way to use rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Way {
    /// Name, which is the beginning of a run's.
    pub name: &'static str,
    /// Description.
    pub meaning: &'static str,
    /// Loss.
    #[serde(serialize_with = "as_name")]
    pub loss: AlgorithmName,
    /// Number of groups of an update.
    pub batch: u64,
    /// Number of them that are new.
    pub new: u64,
    /// Number of optimizer steps on a batch.
    pub passes: u64,
    /// True if half of the updates come after a reincarnation, which ends reuse.
    pub reincarnates: bool,
    /// Factor of the learning rate.
    pub lr_factor: f64,
    /// Name of the way that this one is compared with besides the baseline.
    pub beside: Option<&'static str>,
    /// Settings besides those that the other fields give.
    pub settings: &'static [(&'static str, &'static str)],
}

/// One run of the experiment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Arm {
    /// Way.
    pub way: Way,
    /// Seed of everything that is drawn.
    pub seed: u64,
}

const GRPO: Way = Way {
    name: "grpo",
    meaning: "GRPO, 16 new groups an update",
    loss: AlgorithmName::Grpo,
    batch: BATCH,
    new: BATCH,
    passes: 1,
    reincarnates: false,
    lr_factor: 1.0,
    beside: None,
    settings: &[],
};

/// Mix-PPG with 6 of 16 groups from the two updates before.
const MIX: Way = Way {
    name: "mix",
    meaning: "Mix-PPG, 10 new groups and 6 of the two updates before",
    loss: AlgorithmName::MixPpg,
    new: 10,
    beside: Some("grpo"),
    settings: &[("learner.replay.window", "2")],
    ..GRPO
};

const MIX_UTD: Way = Way {
    name: "mix_utd",
    meaning: "the same, two steps an update (UTD 2)",
    passes: 2,
    beside: Some("grpo_steps"),
    ..MIX
};

const REMIX: [Way; 9] = [
    GRPO,
    Way {
        name: "grpo_steps",
        meaning: "GRPO, 5 new groups an update: as many steps as mix_utd",
        batch: 5,
        new: 5,
        beside: Some("grpo"),
        ..GRPO
    },
    Way {
        name: "grpo_lr3",
        meaning: "GRPO, 16 new groups, three times the learning rate",
        lr_factor: 3.0,
        beside: Some("grpo"),
        ..GRPO
    },
    MIX,
    MIX_UTD,
    Way {
        name: "mix_utd_p20",
        meaning: "mix_utd, 13 new groups and 3 used ones",
        new: 13,
        beside: Some("mix_utd"),
        ..MIX_UTD
    },
    Way {
        name: "mix_utd_p60",
        meaning: "mix_utd, 6 new groups and 10 used ones",
        new: 6,
        beside: Some("mix_utd_p20"),
        ..MIX_UTD
    },
    Way {
        name: "mix_utd_kl",
        meaning: "mix_utd with the KL penalty, beta 0.001",
        beside: Some("mix_utd"),
        settings: &[("learner.replay.window", "2"), ("learner.kl.beta", "0.001")],
        ..MIX_UTD
    },
    Way {
        name: "remix",
        meaning: "the same, reincarnation after half of the updates",
        beside: Some("mix_utd_kl"),
        reincarnates: true,
        settings: &[("learner.replay.window", "2"), ("learner.kl.beta", "0.001")],
        ..MIX_UTD
    },
];

const fn sampler(
    name: &'static str,
    meaning: &'static str,
    settings: &'static [(&'static str, &'static str)],
) -> Way {
    Way {
        name,
        meaning,
        beside: Some("uniform"),
        settings,
        ..MIX
    }
}

const SAMPLERS: [Way; 6] = [
    Way {
        name: "none",
        meaning: "10 new groups an update, nothing again",
        batch: 10,
        beside: None,
        settings: &[],
        ..MIX
    },
    Way {
        beside: Some("none"),
        ..sampler(
            "uniform",
            "10 new groups and 6 of the 8 updates before, drawn alike",
            &[
                ("learner.replay.window", "8"),
                ("learner.replay.sampler", "uniform"),
            ],
        )
    },
    sampler(
        "newest",
        "the newest of them",
        &[
            ("learner.replay.window", "8"),
            ("learner.replay.sampler", "newest"),
        ],
    ),
    sampler(
        "priority",
        "by reward and age (FreshPER)",
        &[
            ("learner.replay.window", "8"),
            ("learner.replay.sampler", "priority"),
        ],
    ),
    sampler(
        "spread",
        "by the spread of rewards (TRL)",
        &[
            ("learner.replay.window", "8"),
            ("learner.replay.sampler", "spread"),
        ],
    ),
    sampler(
        "curated",
        "the set that covers most",
        &[
            ("learner.replay.window", "8"),
            ("learner.replay.sampler", "curated"),
        ],
    ),
];

/// Half live, half from the archive.
const HYBRID: Way = Way {
    name: "hybrid_m2po",
    meaning: "8 live groups and 8 of the archive, M2PO",
    loss: AlgorithmName::M2po,
    new: 8,
    beside: Some("live_half"),
    settings: &[("learner.source", "hybrid")],
    ..GRPO
};

/// Run whose archive hybrids take from.
const SOURCE: Way = Way {
    name: "source",
    meaning: "the run whose archive is taken: GRPO, 0.3 of the learning rate",
    lr_factor: 0.3,
    ..GRPO
};

const HYBRIDS: [Way; 7] = [
    SOURCE,
    Way {
        name: "live",
        meaning: "16 live groups an update, M2PO: twice the live rollouts of hybrids",
        loss: AlgorithmName::M2po,
        ..GRPO
    },
    Way {
        name: "live_half",
        meaning: "8 live groups an update, M2PO: the live rollouts of hybrids, half the computing",
        loss: AlgorithmName::M2po,
        batch: 8,
        new: 8,
        ..GRPO
    },
    HYBRID,
    Way {
        name: "hybrid_prefix",
        meaning: "the same, prefix_tis with a cap of 5 (HyGLOW's weight)",
        loss: AlgorithmName::PrefixTis,
        beside: Some("hybrid_m2po"),
        ..HYBRID
    },
    Way {
        name: "hybrid_slope",
        meaning: "the same, the cap grows by 0.1 an update, from 1 to 5",
        loss: AlgorithmName::PrefixTis,
        beside: Some("hybrid_prefix"),
        settings: &[("learner.source", "hybrid"), ("loss.ratio_slope", "0.1")],
        ..HYBRID
    },
    Way {
        name: "archive",
        meaning: "1 live group and 15 of the archive, M2PO",
        new: 1,
        beside: Some("hybrid_m2po"),
        ..HYBRID
    },
];

impl Comparison {
    /// Returns the ways, in the order of the table.
    pub fn ways(self) -> &'static [Way] {
        match self {
            Self::Remix => &REMIX,
            Self::Samplers => &SAMPLERS,
            Self::Hybrid => &HYBRIDS,
        }
    }

    /// Returns the name of the way that others are compared with.
    pub fn baseline(self) -> &'static str {
        match self {
            Self::Remix => GRPO.name,
            Self::Samplers => "none",
            Self::Hybrid => "live",
        }
    }

    /// Returns the name of the comparison.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remix => "remix",
            Self::Samplers => "samplers",
            Self::Hybrid => "hybrid",
        }
    }

    /// Returns true if every run has as many updates as the first way, and not as many new groups.
    fn counts_updates(self) -> bool {
        self == Self::Hybrid
    }
}

impl Plan {
    /// Checks that there is something to run.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a number out of range.
    pub fn check(&self) -> Result<()> {
        require(self.seeds > 0, "seeds", self.seeds as f64, "at least 1")?;
        let groups = self.groups as f64;
        // Two updates, so that half of them can come after a reincarnation.
        let least = 2 * BATCH;
        require(self.groups >= least, "groups", groups, "at least 32")?;
        let positive = self.lr.is_finite() && self.lr > 0.0;
        require(positive, "lr", self.lr, "above 0")
    }

    /// Returns the runs in the order in which they begin: all ways of the first seed before the next seed, so
    /// that an experiment that was stopped has comparable runs.
    pub fn arms(&self) -> Vec<Arm> {
        let of_seed = |seed| {
            let ways = self.comparison.ways().iter();
            ways.map(move |way| Arm { way: *way, seed })
        };
        self.all_seeds().flat_map(of_seed).collect()
    }

    /// Returns the seeds.
    pub fn all_seeds(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.first_seed;
        (0..self.seeds).map(move |seed| first.saturating_add(seed))
    }
}

impl Way {
    /// Returns the number of updates of a run.
    pub fn updates(&self, plan: &Plan) -> u64 {
        let new = if plan.comparison.counts_updates() {
            BATCH
        } else {
            self.new
        };
        (plan.groups / new).max(1)
    }

    /// Returns the number of optimizer steps of a run.
    pub fn steps(&self, plan: &Plan) -> u64 {
        let updates = self.updates(plan);
        let reusing = if self.reincarnates {
            updates / 2
        } else {
            updates
        };
        reusing * self.passes + updates - reusing
    }

    /// Returns the settings of a run as pairs of key and value, without seed, task and archive.
    pub fn settings(&self, plan: &Plan) -> Vec<(&'static str, String)> {
        let updates = self.updates(plan);
        let used = self.batch - self.new;
        let mut settings = vec![
            ("algorithm", self.loss.as_str().to_owned()),
            ("gate.exact", "0".to_owned()),
            ("learner.steps", updates.to_string()),
            ("learner.prompts_per_update", self.batch.to_string()),
            (
                "learner.optimizer.lr",
                format!("{:e}", plan.lr * self.lr_factor),
            ),
            ("learner.reuse", self.passes.to_string()),
            (
                "evaluation.every",
                (updates / EVALUATIONS).max(1).to_string(),
            ),
        ];
        if used > 0 {
            let share = used as f64 / self.batch as f64;
            let key = match plan.comparison {
                Comparison::Hybrid => "learner.blend_share",
                Comparison::Remix | Comparison::Samplers => "learner.replay.share",
            };
            settings.push((key, share.to_string()));
        }
        if self.source().is_some() {
            // All of the archive: the order in which it is read depends on ids, which are drawn by the clock.
            settings.push(("learner.archive_ahead", plan.groups.to_string()));
        }
        if self.reincarnates {
            settings.push(("learner.reincarnation.at", (updates / 2).max(1).to_string()));
        }
        let own = self.settings.iter();
        settings.extend(own.map(|(key, value)| (*key, (*value).to_owned())));
        settings
    }

    /// Returns the way whose archive this one takes groups of; `None` if it takes none.
    pub fn source(&self) -> Option<&'static str> {
        let mut settings = self.settings.iter();
        settings
            .any(|(key, _)| *key == "learner.source")
            .then_some(SOURCE.name)
    }
}

impl Arm {
    /// Returns the name of the run that has to be done before this one; `None` if it needs none.
    pub fn after(&self) -> Option<String> {
        let source = self.way.source();
        source.map(|source| format!("{source}-{}", self.seed))
    }
}

impl course::Arm for Arm {
    /// Returns way and seed.
    fn name(&self) -> String {
        format!("{}-{}", self.way.name, self.seed)
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
