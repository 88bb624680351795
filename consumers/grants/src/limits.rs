use vintage_control::Ages;
use vintage_settings::GateConfig;

/// Rule for how far producers may run ahead of the learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateRule {
    /// Producers wait rather than exceed a maximum staleness.
    Wait {
        /// Maximum staleness, in updates.
        max_staleness: u64,
    },
    /// Batch b is sampled by version max(0, b − k), as in the paper, or its groups by versions of
    /// different ages.
    Exact {
        /// Staleness of every batch, in updates, or the bound of its groups' ages.
        k: u64,
        /// Ages of the groups of a batch.
        ages: Ages,
    },
}

impl GateRule {
    /// Returns the maximum staleness of a group when it is trained, in updates.
    pub fn bound(self) -> u64 {
        match self {
            Self::Wait { max_staleness } => max_staleness,
            Self::Exact { k, .. } => k,
        }
    }
}

impl From<&GateConfig> for GateRule {
    fn from(config: &GateConfig) -> Self {
        match config.exact {
            Some(k) => Self::Exact {
                k,
                ages: config.ages,
            },
            None => Self::Wait {
                max_staleness: config.max_staleness,
            },
        }
    }
}

/// Bound of a run, for all its producers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rule for how far producers may run ahead.
    pub rule: GateRule,
    /// Number of groups that one update takes from the log.
    pub groups_per_update: u64,
    /// Number of updates of the run.
    pub updates: u64,
}

/// Settings under which producers would wait for ever.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLimits {
    /// An update takes no groups, or no version is ever announced.
    #[error("groups per update and publish_every must be at least 1")]
    Zero,
    /// The bound is reached before the next version is announced.
    #[error(
        "max_staleness {max_staleness} with publish_every {publish_every} would stop the producers \
         before the next version is published; set gate.max_staleness to at least {}",
        publish_every - 1
    )]
    Starves {
        /// Maximum staleness, in updates.
        max_staleness: u64,
        /// Number of versions from one announcement to the next.
        publish_every: u64,
    },
    /// Versions that batches need are not announced.
    #[error(
        "the exact rule needs every version, but publish_every is {publish_every}; set \
         publish_every = 1 or unset gate.exact"
    )]
    SkipsVersions {
        /// Number of versions from one announcement to the next.
        publish_every: u64,
    },
}

impl Limits {
    /// Returns the ages of a batch's groups under the exact rule, the oldest first; none otherwise.
    pub(crate) fn ages(&self) -> Vec<u64> {
        match self.rule {
            GateRule::Exact { k, ages } => ages.of_batch(k, self.groups_per_update),
            GateRule::Wait { .. } => Vec::new(),
        }
    }

    /// Checks the limits against `publish_every`, the number of versions from one announcement to
    /// the next.
    ///
    /// # Errors
    /// [`BadLimits`] if producers would wait for ever.
    pub fn check(&self, publish_every: u64) -> Result<(), BadLimits> {
        if self.groups_per_update == 0 || publish_every == 0 {
            return Err(BadLimits::Zero);
        }
        match self.rule {
            GateRule::Wait { max_staleness } if max_staleness + 1 < publish_every => {
                Err(BadLimits::Starves {
                    max_staleness,
                    publish_every,
                })
            }
            GateRule::Exact { .. } if publish_every != 1 => {
                Err(BadLimits::SkipsVersions { publish_every })
            }
            GateRule::Wait { .. } | GateRule::Exact { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use vintage_control::Ages;

    use super::{BadLimits, GateRule, Limits};

    #[test]
    fn settings_that_would_starve_are_refused() {
        let check = |rule, publish_every, groups_per_update| {
            let limits = Limits {
                rule,
                groups_per_update,
                updates: 10,
            };
            limits.check(publish_every)
        };
        let starves = check(GateRule::Wait { max_staleness: 2 }, 4, 8).unwrap_err();
        assert!(starves.to_string().contains("to at least 3"));
        assert_eq!(
            check(
                GateRule::Exact {
                    k: 4,
                    ages: Ages::Same
                },
                2,
                8
            ),
            Err(BadLimits::SkipsVersions { publish_every: 2 })
        );
        assert_eq!(check(GateRule::Wait { max_staleness: 3 }, 4, 8), Ok(()));
        assert_eq!(
            check(GateRule::Wait { max_staleness: 3 }, 1, 0),
            Err(BadLimits::Zero)
        );
    }
}
