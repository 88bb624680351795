//! Checks of engines' log-probs: some rollouts of each producer process are recomputed under the
//! version that sampled them, beside training.

use std::collections::BTreeMap;

use tokio::task::JoinHandle;
use vintage_control::{EngineMismatch, Metric, Precision, UpdateNumber};
use vintage_mismatch::{Limits, Measurement, Row};
use vintage_model::{Compute, Decoder, DecoderConfig, ParamSet};
use vintage_store::Weights;

use super::Learner;
use crate::{
    error::{Error, Result},
    intake::ReadyGroup,
    settings::LearnerSettings,
    trainer::model_config,
};

/// Engines' checks: which are due, which one is running, and what was found since the last update.
#[derive(Debug, Default)]
pub(super) struct EngineChecks {
    /// First update in which a producer's engine is checked again, by producer process.
    due: BTreeMap<String, UpdateNumber>,
    /// Producer process that is being checked.
    running: Option<(String, JoinHandle<Result<Checked>>)>,
    found: Vec<EngineMismatch>,
    /// Producer processes that were refused since the last report to the granter, with the reason.
    distrusted: Vec<(String, String)>,
}

/// Result of a check of one producer's engine.
#[derive(Debug)]
struct Checked {
    /// Difference of the engine's log-probs; `None` if the versions are no longer in the store.
    mismatch: Option<EngineMismatch>,
    /// Fault of an engine that is refused, in words.
    fault: Option<String>,
}

impl EngineChecks {
    /// Removes and returns what was found since the last update.
    pub(super) fn take_found(&mut self) -> Vec<EngineMismatch> {
        std::mem::take(&mut self.found)
    }

    /// Removes and returns the producers that were refused since the last report, with the reason.
    pub(super) fn take_distrusted(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.distrusted)
    }

    fn is_due(&self, producer: &str, update: UpdateNumber) -> bool {
        self.running.is_none() && self.due.get(producer).is_none_or(|due| *due <= update)
    }
}

impl Learner {
    /// Starts a check of the engine that sampled the newest group, if one is due. At most one check
    /// runs at a time.
    pub(super) fn check_newest(&mut self) {
        let config = &self.settings.learner.mismatch;
        let update = self.trainer.next_update();
        let Some(group) = self
            .intake
            .newest()
            .filter(|group| config.every > 0 && group.own)
        else {
            return;
        };
        if !self.checks.is_due(&group.planned.producer, update) {
            return;
        }
        let rows = rows_of(group, &self.settings, config.rows);
        let Some(name) = rows.first().map(|row| row.engine.clone()) else {
            return;
        };
        let producer = group.planned.producer.clone();
        let mut measurement = Measurement::new(rows);
        let there = &self.retained;
        if !measurement
            .versions()
            .iter()
            .any(|version| there.contains(version))
        {
            return; // The engine is checked on a newer group.
        }
        let weights = self.weights.clone();
        let there: Vec<_> = there.iter().copied().collect();
        let precision = self.settings.learner.compute;
        let tolerance = config.tolerance;
        let check = tokio::spawn(async move {
            let versions = Versions::open(weights, precision).await?;
            for version in measurement.versions() {
                if there.contains(&version)
                    && let Some(decoder) = versions.decoder(version).await?
                {
                    measurement = blocking(move || {
                        measurement.score(version, &decoder)?;
                        Ok(measurement)
                    })
                    .await?;
                }
            }
            let mut found = measurement.mismatches(precision).into_iter();
            let mismatch = found.find(|mismatch| mismatch.engine == name);
            let beyond = mismatch.as_ref().filter(|found| found.mean > tolerance);
            let Some(beyond) = beyond.cloned() else {
                return Ok(Checked {
                    mismatch,
                    fault: None,
                });
            };
            let mut suspects = Vec::new();
            for version in measurement.suspects(&name, &there) {
                let decoder = versions.decoder(version).await?;
                suspects.extend(decoder.map(|decoder| (version, decoder)));
            }
            let engine = name.clone();
            let cause = blocking(move || Ok(measurement.explain(&engine, &suspects)?)).await?;
            let fault = format!(
                "the log-probs of {name} differ by {:.4} nats a token on average from those of the \
                 versions that it names ({tolerance} is accepted): {cause}",
                beyond.mean
            );
            Ok(Checked {
                mismatch,
                fault: Some(fault),
            })
        });
        self.checks.running = Some((producer, check));
    }

    /// Takes the result of a check that has ended: notes the difference, and refuses the engine if
    /// it is too large. A check that fails is repeated; it never ends the learner.
    pub(super) async fn take_checked(&mut self) {
        let ended = self
            .checks
            .running
            .take_if(|(_, check)| check.is_finished());
        let Some((producer, check)) = ended else {
            return;
        };
        let checked = check.await.unwrap_or_else(|panic| {
            Err(Error::Panicked {
                reason: panic.to_string(),
            })
        });
        let every = self.settings.learner.mismatch.every;
        let next = UpdateNumber(self.trainer.next_update().0 + every);
        match checked {
            Ok(Checked { mismatch, fault }) => {
                if let Some(mismatch) = mismatch {
                    self.checks.due.insert(producer.clone(), next);
                    self.note_mismatch(&producer, mismatch);
                }
                if let Some(fault) = fault {
                    let advice = "repair and restart it, or raise learner.mismatch.tolerance if such \
                                  a difference is expected";
                    tracing::error!(
                        producer,
                        "{fault}; the producer's groups are refused; {advice}"
                    );
                    let reason = format!("{fault}; {advice}");
                    self.checks.distrusted.push((producer.clone(), reason));
                    self.intake.distrust(&producer, fault);
                }
            }
            Err(error) => {
                tracing::warn!(
                    producer,
                    "cannot recompute the log-probs of its engine: {error}"
                );
                self.checks.due.insert(producer, next);
            }
        }
    }

    fn note_mismatch(&mut self, producer: &str, mut found: EngineMismatch) {
        found.producer = Some(producer.to_owned());
        for (metric, value) in [
            (Metric::MISMATCH, found.mean),
            (Metric::MISMATCH_KL, found.kl),
        ] {
            let labels = [
                ("learner", self.settings.learner.name.to_string()),
                ("engine", found.engine.clone()),
            ];
            metrics::gauge!(metric.name, &labels).set(value);
        }
        tracing::debug!(
            producer,
            engine = found.engine,
            tokens = found.tokens,
            mean = found.mean,
            kl = found.kl,
            "log-probs recomputed"
        );
        self.checks.found.push(found);
    }
}

/// Returns the first rows of a group that can be compared, at most `most`, all of one engine.
fn rows_of(group: &ReadyGroup, settings: &LearnerSettings, most: usize) -> Vec<Row> {
    let limits = Limits {
        context: settings.context,
        vocabulary: settings.vocabulary,
    };
    let of_parts = group.parts.iter();
    let rows = of_parts.flat_map(|rows| (0..rows.len()).map(move |row| (rows, row)));
    let rows = rows.filter_map(|(rows, row)| Row::take(rows, row, limits).ok());
    let mut rows: Vec<_> = rows.take(most).collect();
    let engine = rows.first().map(|row| row.engine.clone());
    rows.retain(|row| Some(&row.engine) == engine.as_ref());
    rows
}

/// Versions of the learner's policy, as published.
struct Versions {
    weights: Weights,
    config: DecoderConfig,
    precision: Precision,
}

impl Versions {
    async fn open(weights: Weights, precision: Precision) -> Result<Self> {
        let config = model_config(&weights).await?;
        Ok(Self {
            weights,
            config,
            precision,
        })
    }

    /// Opens a version; `None` if it was removed meanwhile.
    async fn decoder(&self, version: vintage_control::PolicyVersion) -> Result<Option<Decoder>> {
        if self.weights.manifest(version).await?.is_none() {
            return Ok(None);
        }
        let bytes = self.weights.fetch(version).await?;
        let (config, precision) = (self.config.clone(), self.precision);
        blocking(move || {
            let params = ParamSet::from_safetensors(&bytes, &config)?;
            let mut decoder = Decoder::new(config, params)?;
            decoder.set_compute(Compute {
                precision,
                recompute: false,
            });
            Ok(Some(decoder))
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    crate::trainer::run_blocking(job).await?
}
