//! Plan of a comparison of gradients: which losses, and what they take.

use std::collections::BTreeSet;

use vintage_ages::{Chosen, Gradients, Loss};
use vintage_control::AlgorithmName;
use vintage_human::{grouped, size};
use vintage_settings::RunConfig;

use super::{gradients::GradientsRequest, loss};
use crate::{
    error::{Error, Result},
    memory::machine,
};

/// Losses that are compared, and what their gradients take.
pub(super) struct Planned {
    pub(super) losses: Vec<Loss>,
    /// First loss with each baseline.
    pub(super) baselines: Vec<Loss>,
    pub(super) cost: Gradients,
}

impl Planned {
    pub(super) fn of(request: &GradientsRequest, config: &RunConfig) -> Self {
        let mut names = request.losses.clone();
        if names.is_empty() {
            names = AlgorithmName::ALL.to_vec();
        }
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.as_str()));
        let losses: Vec<_> = names.into_iter().map(|name| loss(config, name)).collect();
        let mut baselines: Vec<Loss> = Vec::new();
        for loss in &losses {
            if place_of(&baselines, loss).is_none() {
                baselines.push(*loss);
            }
        }
        let groups_per_batch = config.learner.prompts_per_update.max(1);
        Self {
            cost: Gradients {
                losses: losses.len(),
                baselines: baselines.len(),
                fresh: request.fresh.div_ceil(groups_per_batch).max(2),
                groups_per_batch,
            },
            losses,
            baselines,
        }
    }

    /// Returns the number of backward passes over what was chosen.
    ///
    /// # Errors
    /// More than the request allows, with a single version.
    pub(super) fn affordable(&self, chosen: &[Chosen], request: &GradientsRequest) -> Result<u64> {
        let (passes, most) = (self.cost.passes(chosen), request.passes);
        if passes <= most {
            return Ok(passes);
        }
        Err(Error::Setting {
            setting: format!("--passes {most}"),
            reason: format!(
                "with the least number of versions there are up to {passes} backward passes: --passes allows \
                 more, --losses names fewer losses, and --fresh or --groups take fewer groups"
            ),
        })
    }

    /// Says what is going to be computed, and what would be if --passes allowed as many as `wanted` takes.
    pub(super) fn announcement(&self, chosen: &[Chosen], wanted: &[Chosen]) -> String {
        let versions: BTreeSet<_> = chosen.iter().map(|of| of.version).collect();
        let ages: BTreeSet<_> = chosen.iter().map(|of| of.age).collect();
        let fresh = self.cost.fresh * self.cost.groups_per_batch;
        let wanted = self.cost.passes(wanted);
        let more = if wanted > self.cost.passes(chosen) {
            let wanted = grouped(wanted);
            format!(
                "; --passes allows no more versions, all that were asked for would take {wanted}"
            )
        } else {
            String::new()
        };
        format!(
            "computing gradients, at most {} backward passes: losses {}, values of staleness {}, versions {}, \
             fresh groups {}{more}",
            grouped(self.cost.passes(chosen)),
            self.cost.losses,
            ages.len(),
            versions.len(),
            grouped((fresh * versions.len()) as u64),
        )
    }

    /// Refuses on-policy gradients that this machine cannot hold: one of every fresh batch and baseline, of
    /// `values` values.
    pub(super) fn refuse_too_large(&self, values: usize) -> Result<()> {
        let vectors = (self.cost.fresh * self.cost.baselines) as u64;
        let needed = vectors * 4 * values as u64;
        match machine() {
            // The other half is for the model and its activations.
            Some(memory) if needed > memory / 2 => Err(Error::Setting {
                setting: "--fresh".to_owned(),
                reason: format!(
                    "the gradients of {} fresh batches, each with {} baselines, take {}, and this machine has {}: \
                     give a smaller number, or name losses with fewer baselines (--losses m2po,grpo,none)",
                    self.cost.fresh,
                    self.cost.baselines,
                    size(needed),
                    size(memory)
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// Returns the place of a loss with the same baseline.
pub(super) fn place_of(losses: &[Loss], loss: &Loss) -> Option<usize> {
    losses.iter().position(|of| of.baseline == loss.baseline)
}
