//! Gradients of losses on old rollouts, beside the on-policy gradient of the same version.

use std::collections::BTreeMap;

use serde::Serialize;
use vintage_ages::{
    AgeDirections, Agreement, BatchDirection, Directions, Loss, Reference, Weights, verdict,
};
use vintage_control::{AlgorithmName, PolicyVersion};
use vintage_mismatch::Row;
use vintage_model::Decoder;
use vintage_report::GradientsShown;

use super::{
    batch::{Batch, LaidOut},
    fresh::Fresh,
    planned::{Planned, place_of},
};
use crate::{
    decoders::blocking,
    error::{Error, Result},
    event::{Events, RunEvent},
};

/// Gradients to compute.
#[derive(Debug, Clone)]
pub struct GradientsRequest {
    /// Losses to compare; all if empty.
    pub losses: Vec<AlgorithmName>,
    /// Number of groups that each version samples for the on-policy gradient. They are taken in batches of
    /// an update's size, and there are at least two of those.
    pub fresh: usize,
    /// Largest number of backward passes; fewer versions are taken if there would be more.
    pub passes: u64,
    /// Seed of the fresh rollouts, beside the run's.
    pub seed: u64,
}

/// Direction of the losses' gradients on old rollouts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GradientsReport {
    /// Sentence that says what was found; absent if the run's own loss was not compared, or no version had an
    /// on-policy gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentence: Option<String>,
    /// Losses that were compared, in the order asked for.
    pub losses: Vec<AlgorithmName>,
    /// Number of backward passes.
    pub passes: u64,
    /// Quality of each version's on-policy gradient.
    pub references: Vec<MeasuredReference>,
    /// Figures by staleness.
    pub ages: Vec<AgeDirections>,
}

impl GradientsReport {
    /// Returns what the page shows.
    pub(super) fn shown(&self) -> GradientsShown<'_> {
        GradientsShown {
            sentence: self.sentence.as_deref(),
            losses: &self.losses,
            ages: &self.ages,
        }
    }
}

/// Quality of a version's on-policy gradient: how well fresh rollouts agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeasuredReference {
    /// Version that sampled, and at whose weights the gradient is.
    pub version: PolicyVersion,
    /// Number of fresh groups.
    pub groups: u64,
    /// Mean reward of their rollouts.
    pub reward: f64,
    /// Cosine of a batch with the gradient of all others, with the baseline of the first loss. Absent if there
    /// is no gradient, because all rollouts of a prompt have one reward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fresh: Option<f64>,
    /// Cosine between the gradients of two halves of the fresh groups, as `fresh`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halves: Option<f64>,
}

/// Gradients that are being computed.
pub(super) struct Compared {
    planned: Planned,
    sampler: Fresh,
    directions: Directions,
    measured: Vec<MeasuredReference>,
    /// References of the version in hand, by baseline; `None` where there is none.
    references: Vec<Option<Reference>>,
    passes: Progress,
}

/// Number of backward passes done, and at most.
struct Progress {
    done: u64,
    of: u64,
    events: Events,
}

impl Progress {
    fn step(&mut self, version: PolicyVersion, passes: usize) {
        self.done += passes as u64;
        let _nobody_listens = self.events.send(RunEvent::Differentiated {
            version,
            done: self.done,
            of: self.of,
        });
    }
}

impl Compared {
    /// Starts to compute what was planned, at most `passes` backward passes.
    pub(super) fn start(planned: Planned, sampler: Fresh, passes: u64, events: &Events) -> Self {
        Self {
            planned,
            sampler,
            directions: Directions::default(),
            measured: Vec::new(),
            references: Vec::new(),
            passes: Progress {
                done: 0,
                of: passes,
                events: events.clone(),
            },
        }
    }

    /// Samples with a version, and computes its on-policy gradient with each baseline.
    pub(super) async fn sample(
        &mut self,
        version: PolicyVersion,
        mut decoder: Decoder,
    ) -> Result<Decoder> {
        self.planned
            .refuse_too_large(decoder.trainable().parameter_count())?;
        let mut gradients: Vec<Vec<Vec<f32>>> = vec![Vec::new(); self.planned.baselines.len()];
        let (mut reward, mut rollouts) = (0.0, 0_u64);
        for number in 0..self.planned.cost.fresh {
            let groups = self.planned.cost.groups_per_batch;
            let batch = self.sampler.batch(version, number * groups, groups).await?;
            for rollout in batch.groups.iter().flat_map(|group| &group.rollouts) {
                reward += f64::from(rollout.reward);
                rollouts += 1;
            }
            let baselines = self.planned.baselines.clone();
            let computed = blocking(move || {
                let laid = LaidOut::of(&decoder, &batch)?;
                let of_baseline = |loss| {
                    let weights = Weights::reinforce(loss, &batch.groups);
                    laid.gradient(&weights.map_err(|error| Error::Bug(error.to_string()))?)
                };
                let gradients: Result<Vec<_>> = baselines.iter().map(of_baseline).collect();
                Ok((gradients?, decoder))
            });
            let (of_batch, back) = computed.await?;
            decoder = back;
            for (all, gradient) in gradients.iter_mut().zip(of_batch) {
                all.push(gradient);
            }
            self.passes.step(version, self.planned.baselines.len());
        }
        self.references = gradients.into_iter().map(Reference::of).collect();
        let first = self.references.first().and_then(Option::as_ref);
        self.measured.push(MeasuredReference {
            version,
            groups: (self.planned.cost.fresh * self.planned.cost.groups_per_batch) as u64,
            reward: reward / rollouts.max(1) as f64,
            fresh: first.map(Reference::fresh),
            halves: first.map(Reference::halves),
        });
        Ok(decoder)
    }

    /// Computes the gradient of each loss on groups that stand for `age`, at the weights of the version that
    /// sampled last.
    pub(super) async fn compare(
        &mut self,
        age: u64,
        version: PolicyVersion,
        groups: Vec<(vintage_ages::Group, Vec<Row>)>,
        mut decoder: Decoder,
    ) -> Result<Decoder> {
        for batch in Batch::split(groups, self.planned.cost.groups_per_batch) {
            let staleness = batch
                .groups
                .iter()
                .map(|of| version.staleness_of(of.oldest).0);
            let staleness = staleness.sum::<u64>() as f64 / batch.groups.len().max(1) as f64;
            let count = batch.groups.len() as u64;
            let losses = self.planned.losses.clone();
            let (baselines, references) = (
                self.planned.baselines.clone(),
                std::mem::take(&mut self.references),
            );
            let computed = blocking(move || {
                let found = agreements(&decoder, &batch, &losses, |loss| {
                    let place = place_of(&baselines, loss)?;
                    Some((place, references.get(place)?.as_ref()?))
                });
                Ok((found?, references, decoder))
            });
            let (found, references, back) = computed.await?;
            (self.references, decoder) = (references, back);
            for (loss, found) in self.planned.losses.iter().zip(found) {
                let direction = match found {
                    // A version without an on-policy gradient says nothing about any loss.
                    Found::NoReference => continue,
                    Found::NotWeighed => None,
                    Found::Compared(weights, fresh, of) => Some(BatchDirection {
                        version,
                        groups: count,
                        staleness,
                        cosine: of.cosine,
                        fresh,
                        norm: of.norm,
                        masked: weights.masked,
                        truncated: weights.truncated,
                        effective: weights.effective,
                    }),
                };
                self.directions.add(age, loss.name, direction);
            }
            self.passes.step(version, self.planned.losses.len());
        }
        Ok(decoder)
    }

    /// Ends the sampler, and returns what was found beside the loss that the run trains by.
    pub(super) async fn finish(self, own: AlgorithmName) -> GradientsReport {
        self.sampler.close().await;
        let ages = self.directions.figures(own);
        GradientsReport {
            sentence: verdict(&ages, own, self.planned.cost.groups_per_batch as u64),
            losses: self.planned.losses.iter().map(|loss| loss.name).collect(),
            passes: self.passes.done,
            references: self.measured,
            ages,
        }
    }
}

/// Outcome of a loss on a batch.
enum Found {
    NoReference,
    NotWeighed,
    /// Weights, cosine of a fresh batch, and agreement of the loss's gradient.
    Compared(Weights, f64, Agreement),
}

/// Computes the gradient of each loss and compares it. Losses with the same weights share one.
fn agreements<'r>(
    decoder: &Decoder,
    batch: &Batch,
    losses: &[Loss],
    reference: impl Fn(&Loss) -> Option<(usize, &'r Reference)>,
) -> Result<Vec<Found>> {
    let laid = LaidOut::of(decoder, batch)?;
    let mut known: BTreeMap<(usize, Vec<u32>), Option<Agreement>> = BTreeMap::new();
    let of_loss = |loss: &Loss| {
        let Some((place, reference)) = reference(loss) else {
            return Ok(Found::NoReference);
        };
        let Ok(weights) = Weights::of(loss, &batch.groups) else {
            return Ok(Found::NotWeighed);
        };
        let bits = weights.of_tokens.iter().map(|weight| weight.to_bits());
        let key = (place, bits.collect());
        let agreement = if let Some(known) = known.get(&key) {
            *known
        } else {
            let found = reference.agreement(&laid.gradient(&weights.of_tokens)?);
            known.insert(key, found);
            found
        };
        Ok(agreement.map_or(Found::NotWeighed, |found| {
            Found::Compared(weights, reference.fresh(), found)
        }))
    };
    losses.iter().map(of_loss).collect()
}
