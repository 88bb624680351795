//! Records that are written but cannot be read yet because of an open transaction. A consumer with
//! `read_committed` isolation stops there and gives no sign of waiting.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use vintage_control::{Offset, Partition};

use crate::{
    bus::Bus,
    error::{Error, Result, reason_of},
};

/// Time after which an open transaction is first reported. Most last less than a second.
const USUAL: Duration = Duration::from_secs(15);

/// Range of offsets of a partition that an open transaction keeps from being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withheld {
    /// Partition of the topic.
    pub partition: Partition,
    /// First offset that cannot be read.
    pub from: Offset,
    /// First offset not yet written.
    pub to: Offset,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            from,
            to,
        } = self;
        write!(
            f,
            "partition {partition} offsets {from} to before {to} are written and cannot be read \
             yet: a transaction of another program is open there, until it commits, aborts or runs \
             into its transaction.timeout.ms; kafka-transactions.sh (list, find-hanging, abort) \
             names and ends it"
        )
    }
}

impl Bus {
    /// Returns the offsets that open transactions withhold from readers of a topic, for each
    /// partition that has any. The answer holds for a moment only: a transaction may end meanwhile.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`]; [`Error::Unreachable`] if no broker answers.
    pub async fn withheld(&self, topic: &str) -> Result<Vec<Withheld>> {
        if self.is_embedded() {
            return Ok(Vec::new()); // the embedded broker has no transactions
        }
        let readable = self.watermarks(topic).await?;
        let mut config = self.settings().probe();
        config.set("isolation.level", "read_uncommitted");
        let (name, timeout) = (topic.to_owned(), self.timeout());
        let written = tokio::task::spawn_blocking(move || -> Result<Vec<_>, KafkaError> {
            let client: BaseConsumer = config.create()?;
            let high = |(partition, _, end): (Partition, Offset, Offset)| -> Result<_, KafkaError> {
                let (_, high) = client.fetch_watermarks(&name, partition.0, timeout)?;
                Ok(Withheld {
                    partition,
                    from: end,
                    to: Offset(high),
                })
            };
            readable.into_iter().map(high).collect()
        });
        let written = written.await.map_err(|_| Error::Stopped {
            what: "a question to the brokers",
        })?;
        let written = written.map_err(|error| Error::Request {
            action: format!("asking how far topic {topic} is written"),
            bootstrap: self.bootstrap().to_owned(),
            reason: reason_of(&error),
            retryable: true,
        })?;
        Ok(written.into_iter().filter(|at| at.from < at.to).collect())
    }
}

/// Tracker of the partitions whose reading is blocked by an open transaction.
#[derive(Debug, Default)]
pub(crate) struct BlockedPartitions(HashMap<Partition, Wait>);

#[derive(Debug)]
struct Wait {
    at: Offset,
    since: Instant,
    /// Duration of the wait at which the next warning is due; doubled after each warning.
    patience: Duration,
}

impl BlockedPartitions {
    /// Updates the state of a partition, given its last stable offset and its high watermark, and
    /// returns a warning if one is due. `behind` is true if everything before the first open
    /// transaction was read.
    pub(crate) fn look(
        &mut self,
        (partition, stable, high): (Partition, Offset, Offset),
        behind: bool,
        now: Instant,
    ) -> Option<String> {
        if !behind || stable >= high {
            self.forget(partition);
            return None;
        }
        let wait = self.0.entry(partition).or_insert_with(|| Wait {
            at: stable,
            since: now,
            patience: USUAL,
        });
        if wait.at != stable {
            *wait = Wait {
                at: stable,
                since: now,
                patience: USUAL,
            };
        }
        let lasted = now.saturating_duration_since(wait.since);
        if lasted < wait.patience {
            return None;
        }
        wait.patience *= 2;
        let withheld = Withheld {
            partition,
            from: stable,
            to: high,
        };
        Some(format!("waiting for {} s: {withheld}", lasted.as_secs()))
    }

    pub(crate) fn forget(&mut self, partition: Partition) {
        self.0.remove(&partition);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use vintage_control::{Offset, Partition};

    use super::BlockedPartitions;

    #[test]
    fn a_transaction_that_stays_open_is_told_at_growing_intervals() {
        let mut stuck = BlockedPartitions::default();
        let begun = Instant::now();
        let mut look = |seconds, stable, high| {
            let at = begun + Duration::from_secs(seconds);
            stuck.look((Partition(2), Offset(stable), Offset(high)), true, at)
        };
        assert_eq!(look(0, 7, 9), None);
        assert_eq!(look(14, 7, 11), None);
        let word = look(15, 7, 11).expect("a word");
        assert!(
            word.starts_with("waiting for 15 s: partition 2 offsets 7 to before 11"),
            "{word}"
        );
        assert_eq!(look(29, 7, 11), None);
        assert!(look(30, 7, 11).is_some());
        assert_eq!(look(59, 7, 11), None);
        // Another transaction.
        assert_eq!(look(60, 9, 11), None);
        assert!(look(75, 9, 11).is_some());
        // It ended.
        assert_eq!(look(200, 11, 11), None);
        assert_eq!(look(201, 11, 12), None);
    }
}
