//! Choice of the rollouts that are first in an order.

use vintage_archive::ArchivedMessage;
use vintage_trajectory::Rows;

use super::sample::Sample;

/// Order of rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Sampled last.
    Newest,
    /// Highest reward.
    Best,
    /// Lowest reward.
    Worst,
    /// Most tokens.
    Longest,
}

/// The first rollouts in an order, of all that were added. Of equal ones, those added first.
#[derive(Debug)]
pub(super) struct Chosen {
    order: Order,
    count: usize,
    /// First ones so far, each with its rank; the highest rank is first.
    kept: Vec<(f64, Sample)>,
}

impl Chosen {
    /// Creates a choice of at most `count` rollouts.
    pub(super) fn new(order: Order, count: usize) -> Self {
        Self {
            order,
            count,
            kept: Vec::new(),
        }
    }

    /// Considers the rollouts of a message, or those of `prompt` alone. A quarantined message has
    /// none.
    pub(super) fn add(&mut self, message: &ArchivedMessage, prompt: Option<&str>) {
        let Ok(rows) = &message.rows else { return };
        for row in 0..rows.len() {
            if prompt.is_none_or(|id| rows.prompt_id(row) == id) {
                self.consider(self.rank(rows, row), || Sample::of(message, rows, row));
            }
        }
    }

    fn rank(&self, rows: &Rows, row: usize) -> f64 {
        let reward = f64::from(rows.reward(row));
        let rank = match self.order {
            Order::Newest => rows.created_at_us(row) as f64,
            Order::Best => reward,
            Order::Worst => -reward,
            Order::Longest => rows.completion_tokens(row).len() as f64,
        };
        // A reward that is no number was rejected; it is worth a look before all others.
        if rank.is_nan() { f64::INFINITY } else { rank }
    }

    fn consider(&mut self, rank: f64, sample: impl FnOnce() -> Sample) {
        let at = self.kept.partition_point(|(kept, _)| *kept >= rank);
        if at < self.count {
            self.kept.insert(at, (rank, sample()));
            self.kept.truncate(self.count);
        }
    }

    /// Returns the chosen rollouts, the first in the order first.
    pub(super) fn into_samples(self) -> Vec<Sample> {
        self.kept.into_iter().map(|(_, sample)| sample).collect()
    }
}
