use std::collections::{BTreeMap, BTreeSet};

use vintage_control::{EngineMismatch, PolicyVersion, Precision};
use vintage_model::{Decoder, Result};

use crate::{
    cause::{self, Cause},
    row::Row,
    score::score,
    tally::Tally,
};

/// Rollouts whose log-probs are computed again, version by version.
#[derive(Debug, Clone)]
pub struct Measurement {
    rows: Vec<Row>,
    /// Recomputed tokens by engine and version.
    parts: BTreeMap<(String, PolicyVersion), Part>,
}

/// Recomputed tokens of one engine and one version.
#[derive(Debug, Clone, Default)]
struct Part {
    /// Rows of which a token was recomputed, by index.
    rows: BTreeSet<usize>,
    tally: Tally,
}

impl Part {
    fn mismatch(&self, engine: &str, precision: Precision) -> Option<EngineMismatch> {
        self.tally
            .mismatch(engine, self.rows.len() as u64, precision)
    }

    fn merge(&mut self, other: &Self) {
        self.rows.extend(&other.rows);
        self.tally.merge(&other.tally);
    }
}

impl Measurement {
    /// Creates a measurement of rollouts of any engines.
    pub fn new(rows: Vec<Row>) -> Self {
        Self {
            rows,
            parts: BTreeMap::new(),
        }
    }

    /// Returns the versions that sampled any token, oldest first. [`Measurement::score`] wants each
    /// of them; tokens of one that is left out are not measured.
    pub fn versions(&self) -> Vec<PolicyVersion> {
        let spans = self.rows.iter().flat_map(|row| &row.spans);
        let versions: BTreeSet<_> = spans.map(|span| span.version).collect();
        versions.into_iter().collect()
    }

    /// Recomputes the tokens that `version` sampled.
    pub fn score(&mut self, version: PolicyVersion, decoder: &Decoder) -> Result<()> {
        let own: Vec<_> = (0..self.rows.len())
            .filter(|index| self.rows[*index].positions(version).next().is_some())
            .collect();
        let rows: Vec<_> = own.iter().map(|index| &self.rows[*index]).collect();
        let scores = score(decoder, &rows, Row::reported_temperature)?;
        for ((index, row), recomputed) in own.iter().zip(rows).zip(scores) {
            let part = self.parts.entry((row.engine.clone(), version)).or_default();
            part.rows.insert(*index);
            part.tally.add(row, version, &recomputed);
        }
        Ok(())
    }

    /// Returns the result of every engine of which a token was recomputed, by its name. `precision`
    /// is that of the decoders.
    pub fn mismatches(&self, precision: Precision) -> Vec<EngineMismatch> {
        let mut engines: BTreeMap<&str, Part> = BTreeMap::new();
        for ((engine, _), part) in &self.parts {
            engines.entry(engine).or_default().merge(part);
        }
        let engines = engines.iter();
        engines
            .filter_map(|(engine, part)| part.mismatch(engine, precision))
            .collect()
    }

    /// Returns the result of every engine and version of which a token was recomputed.
    pub fn by_version(&self, precision: Precision) -> Vec<(PolicyVersion, EngineMismatch)> {
        let parts = self.parts.iter();
        parts
            .filter_map(|((engine, version), part)| {
                Some((*version, part.mismatch(engine, precision)?))
            })
            .collect()
    }

    /// Returns the version, of those that are `there`, whose tokens differ most in sum, or of which an
    /// engine has most rows if none is scored. Its neighbours among them follow, and the oldest, which
    /// a server holds whose weights were never changed: what [`Measurement::explain`] wants.
    pub fn suspects(&self, engine: &str, there: &[PolicyVersion]) -> Vec<PolicyVersion> {
        let mut rows: BTreeMap<PolicyVersion, usize> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.engine == engine) {
            let versions: BTreeSet<_> = row.spans.iter().map(|span| span.version).collect();
            for version in versions
                .into_iter()
                .filter(|version| there.contains(version))
            {
                *rows.entry(version).or_default() += 1;
            }
        }
        let differs = |version: PolicyVersion| {
            let part = self.parts.get(&(engine.to_owned(), version));
            let found = part.and_then(|part| part.mismatch(engine, Precision::F32));
            found.map_or(0.0, |found| found.mean * found.tokens as f64)
        };
        let rows = rows
            .into_iter()
            .map(|(version, rows)| (differs(version), rows, version));
        let Some((_, _, main)) =
            rows.max_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))))
        else {
            return Vec::new();
        };
        let older = there.iter().filter(|version| **version < main).max();
        let newer = there.iter().filter(|version| **version > main).min();
        let oldest = there
            .iter()
            .min()
            .filter(|oldest| **oldest < main && Some(*oldest) != older);
        let others = older.into_iter().chain(newer).chain(oldest).copied();
        [main].into_iter().chain(others).collect()
    }

    /// Returns the likeliest cause of an engine's mismatch, found on the tokens of the first of
    /// `decoders`, which are those of [`Measurement::suspects`].
    pub fn explain(&self, engine: &str, decoders: &[(PolicyVersion, Decoder)]) -> Result<Cause> {
        let Some((version, decoder)) = decoders.first() else {
            return Ok(Cause::Unknown);
        };
        let of_engine = self.rows.iter().filter(|row| row.engine == engine);
        let rows: Vec<_> = of_engine
            .filter(|row| row.positions(*version).next().is_some())
            .collect();
        cause::find(&rows, *version, decoder, &decoders[1..])
    }
}
