//! Entry point of `vintage mismatch`: recomputes archived log-probs under the versions that sampled
//! the tokens, as far as these are in the store.

mod draw;

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;
use vintage_control::{EngineMismatch, Name, PolicyVersion};
use vintage_mismatch::{Incomparable, Measurement, Row};
use vintage_store::Weights;
use vintage_trajectory::{Headers, Rows};

use self::draw::Draw;
use crate::{
    archive_source::archive_of_run,
    decoders::{Decoders, blocking},
    error::{Error, Result},
    folder::open_store,
    learner_of::learner_of,
};

/// Rollouts to recompute.
#[derive(Debug, Clone)]
pub struct MismatchRequest {
    /// Folder of the run.
    pub folder: PathBuf,
    /// Learner whose policy sampled the rollouts; `None` for the lead.
    pub learner: Option<Name>,
    /// Number of rollouts to recompute of each engine.
    pub rows: usize,
    /// True to measure each producer process apart.
    pub by_producer: bool,
    /// Largest mean difference that is accepted, in nats a token; `None` for that of the run.
    pub tolerance: Option<f64>,
}

/// Difference of a run's engines from its versions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MismatchReport {
    /// Policy whose rollouts were recomputed.
    pub policy: Name,
    /// Largest mean difference that is accepted, in nats a token.
    pub tolerance: f64,
    /// Result by engine.
    pub engines: Vec<MeasuredEngine>,
    /// Number of archived rollouts that could not be recomputed, by reason.
    pub left_out: BTreeMap<&'static str, u64>,
}

/// Result of one engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasuredEngine {
    /// Number of rollouts of the engine that could be recomputed.
    pub comparable: u64,
    /// Difference over the rollouts that were drawn of them.
    pub mismatch: EngineMismatch,
    /// Difference by version, oldest first.
    pub versions: Vec<MeasuredVersion>,
    /// Likely cause, in words, if the difference is not accepted.
    pub cause: Option<String>,
}

/// Difference over the tokens of one version.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeasuredVersion {
    /// Version that sampled.
    pub version: PolicyVersion,
    /// Number of rollouts.
    pub rows: u64,
    /// Number of tokens.
    pub tokens: u64,
    /// See [`EngineMismatch::kl`].
    pub kl: f64,
    /// See [`EngineMismatch::mean`].
    pub mean: f64,
}

impl MismatchReport {
    /// Returns true if every engine's difference is accepted.
    pub fn holds(&self) -> bool {
        self.engines.iter().all(|engine| engine.cause.is_none())
    }
}

/// Recomputes a random sample of the archived rollouts of each engine. The sample depends on the
/// archive alone.
///
/// # Errors
/// No run, no archive, or no rollout whose version is still in the store.
pub async fn mismatch(request: &MismatchRequest) -> Result<MismatchReport> {
    let folder = &request.folder;
    let refuse = |reason: String| Error::Folder {
        path: folder.clone(),
        reason,
    };
    let store = open_store(folder)?;
    let learner = learner_of(folder, &store, request.learner.as_ref()).await?;
    let config = vintage_config::read(&learner.config)?;
    let policy = config.learner.policy.clone();
    let (reader, _) = archive_of_run(&config, &store, true).await?;
    let weights = Weights::new(store, policy.clone());
    let there = weights.versions().await?;
    let decoders = Decoders::open(&weights, config.learner.compute).await?;
    let tolerance = request
        .tolerance
        .unwrap_or(config.learner.mismatch.tolerance);

    let limits = decoders.limits();
    let take = |headers: &Headers, rows: &Rows, row: usize| {
        if headers.policy != policy.as_str() {
            return Err("of another policy");
        }
        if headers.replay_of.is_some() {
            return Err("replayed from another topic");
        }
        let mut versions = rows.policy_spans(row).map(|span| span.version);
        if !versions.any(|version| there.binary_search(&version).is_ok()) {
            return Err("sampled by versions that are no longer in the store");
        }
        let mut taken = Row::take(rows, row, limits).map_err(Incomparable::as_str)?;
        if request.by_producer {
            taken.engine = format!("{} of {}", taken.engine, headers.producer);
        }
        Ok(taken)
    };
    let drawn = Draw::from(&reader, request.rows, take).await?;
    if drawn.engines.is_empty() {
        let why: Vec<_> = drawn.left_out.iter().collect();
        let why = why.iter().map(|(reason, rows)| format!("{rows}: {reason}"));
        return Err(refuse(format!(
            "has no archived rollout of policy {policy} that can be recomputed ({}); versions stay \
             in the store with learner.keep_versions",
            why.collect::<Vec<_>>().join("; ")
        )));
    }
    let Draw { engines, left_out } = drawn;
    let comparable: BTreeMap<_, _> = engines
        .iter()
        .map(|(engine, drawn)| (engine.clone(), drawn.comparable))
        .collect();
    let rows = engines.into_values().flat_map(|drawn| drawn.rows);
    let mut measurement = Measurement::new(rows.map(|drawn| drawn.row).collect());
    for version in measurement.versions() {
        if there.contains(&version) {
            let decoder = decoders.decoder(version).await?;
            measurement = blocking(move || {
                measurement.score(version, &decoder)?;
                Ok(measurement)
            })
            .await?;
        }
    }
    let precision = config.learner.compute;
    let by_version = measurement.by_version(precision);
    let mut measured = Vec::new();
    for mismatch in measurement.mismatches(precision) {
        let cause = if mismatch.mean > tolerance {
            let mut suspects = Vec::new();
            for version in measurement.suspects(&mismatch.engine, &there) {
                suspects.push((version, decoders.decoder(version).await?));
            }
            let (engine, of) = (mismatch.engine.clone(), measurement.clone());
            let cause = blocking(move || Ok(of.explain(&engine, &suspects)?)).await?;
            Some(cause.to_string())
        } else {
            None
        };
        let own = by_version
            .iter()
            .filter(|(_, of)| of.engine == mismatch.engine);
        let versions = own.map(|(version, of)| MeasuredVersion {
            version: *version,
            rows: of.rows,
            tokens: of.tokens,
            kl: of.kl,
            mean: of.mean,
        });
        measured.push(MeasuredEngine {
            comparable: comparable.get(&mismatch.engine).copied().unwrap_or(0),
            versions: versions.collect(),
            cause,
            mismatch,
        });
    }
    Ok(MismatchReport {
        policy,
        tolerance,
        engines: measured,
        left_out,
    })
}
