//! Random sample of archived rollouts.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BinaryHeap},
};

use vintage_archive::{Filter, Reader};
use vintage_mismatch::Row;
use vintage_trajectory::{Headers, Rows, TrajectoryId, validate};

use crate::error::Result;

/// Random sample of the rollouts of an archive.
#[derive(Default)]
pub(super) struct Draw {
    /// Rollouts drawn, by engine.
    pub(super) engines: BTreeMap<String, DrawnEngine>,
    /// Number of rollouts that could not be drawn, by reason.
    pub(super) left_out: BTreeMap<&'static str, u64>,
}

/// Random sample of the rollouts of one engine.
#[derive(Default)]
pub(super) struct DrawnEngine {
    /// Number of rollouts that could be drawn.
    pub(super) comparable: u64,
    pub(super) rows: BinaryHeap<DrawnRow>,
}

/// Rollout in the order of its id. Ids are digests, so the least of them are a random sample.
pub(super) struct DrawnRow {
    id: TrajectoryId,
    pub(super) row: Row,
}

impl Draw {
    /// Draws at most `most` of the rollouts of each engine that `take` takes.
    pub(super) async fn from(
        reader: &Reader,
        most: usize,
        take: impl Fn(&Headers, &Rows, usize) -> Result<Row, &'static str>,
    ) -> Result<Self> {
        let mut draw = Self::default();
        let mut messages = reader.merged(&Filter::default()).await?;
        while let Some(message) = messages.next().await? {
            let Ok((headers, rows)) = message.into_read() else {
                continue;
            };
            if validate(&rows).is_err() {
                *draw.left_out.entry("malformed").or_default() += rows.len() as u64;
                continue;
            }
            for row in 0..rows.len() {
                match take(&headers, &rows, row) {
                    Ok(taken) => draw.add(rows.trajectory_id(row), taken, most),
                    Err(reason) => *draw.left_out.entry(reason).or_default() += 1,
                }
            }
        }
        Ok(draw)
    }

    fn add(&mut self, id: TrajectoryId, row: Row, most: usize) {
        let drawn = self.engines.entry(row.engine.clone()).or_default();
        drawn.comparable += 1;
        drawn.rows.push(DrawnRow { id, row });
        if drawn.rows.len() > most {
            drawn.rows.pop();
        }
    }
}

impl PartialEq for DrawnRow {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for DrawnRow {}

impl PartialOrd for DrawnRow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DrawnRow {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.0.cmp(&other.id.0)
    }
}
