//! Publisher of a replay: sends records in order and verifies the offset of each.

use std::{collections::BTreeMap, future::poll_fn, task::Poll};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio::{
    sync::mpsc::Receiver,
    time::{Duration, Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use vintage_bus::{Bus, Delivery, Producer};
use vintage_control::{Offset, Partition};

use super::{amount::CopiedAmount, copy::Copied, tail::Tails};
use crate::error::{Error, Result};

/// Maximum number of groups awaiting acknowledgement, enough to hide the broker's latency.
const IN_FLIGHT: usize = 64;
/// Time by which a delayed replay may run ahead of its rate to catch up.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Publisher of groups, in the order in which it receives them.
pub(super) struct Republisher {
    producer: Producer,
    to: String,
    /// Offset that the next acknowledged record of each partition must have.
    next: BTreeMap<Partition, Offset>,
    /// Interval between two groups, and the time when the next one is due.
    pace: Option<(Duration, Instant)>,
    published: Published,
}

/// Amounts that the log acknowledged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Published {
    pub(super) amount: CopiedAmount,
    pub(super) bytes: u64,
    pub(super) reencoded: u64,
}

/// Record in flight or acknowledged.
struct Sent {
    partition: Partition,
    rows: u64,
    bytes: u64,
    reencoded: bool,
    /// True for the last record of its group.
    completes: bool,
    delivery: Result<Delivery, vintage_bus::Error>,
}

type Sending = FuturesOrdered<BoxFuture<'static, Sent>>;

impl Republisher {
    pub(super) fn new(
        producer: Producer,
        to: &str,
        tails: Tails,
        groups_per_second: Option<f64>,
    ) -> Self {
        let pace =
            groups_per_second.map(|rate| (Duration::from_secs_f64(rate.recip()), Instant::now()));
        Self {
            producer,
            to: to.to_owned(),
            next: tails.next,
            pace,
            published: Published::default(),
        }
    }

    /// Publishes until the channel ends or `stop` is cancelled, then waits until everything sent is
    /// acknowledged.
    pub(super) async fn run(
        mut self,
        bus: &Bus,
        mut groups: Receiver<Vec<Copied>>,
        stop: &CancellationToken,
    ) -> Result<Published> {
        let mut sending = Sending::new();
        let mut in_flight = 0;
        let mut open = true;
        while open || !sending.is_empty() {
            let due = self.pace.map(|(_, due)| due);
            tokio::select! {
                biased;
                Some(sent) = sending.next(), if !sending.is_empty() => {
                    in_flight -= usize::from(sent.completes);
                    self.note(sent)?;
                }
                () = stop.cancelled(), if open => open = false,
                group = next(&mut groups, due), if open && in_flight < IN_FLIGHT => {
                    let Some(group) = group else {
                        open = false;
                        continue;
                    };
                    self.paced();
                    in_flight += 1;
                    self.send(group, &mut sending).await;
                }
            }
        }
        self.producer.flush().await?;
        for (partition, _, high) in bus.watermarks(&self.to).await? {
            self.expect(partition, high)?;
        }
        Ok(self.published)
    }

    /// Passes a group's records to the Kafka client, in order.
    async fn send(&self, group: Vec<Copied>, sending: &mut Sending) {
        let last = group.len() - 1;
        for (index, copied) in group.into_iter().enumerate() {
            let Copied {
                record,
                rows,
                reencoded,
            } = copied;
            let (producer, to) = (self.producer.clone(), self.to.clone());
            let bytes = record
                .payload
                .as_ref()
                .map_or(0, |payload| payload.len() as u64);
            let partition = record.partition.unwrap_or_default();
            let mut sent = async move {
                Sent {
                    partition,
                    rows,
                    bytes,
                    reencoded,
                    completes: index == last,
                    delivery: producer.append(&to, record).await,
                }
            }
            .boxed()
            .fuse();
            // The first poll fixes the record's place in the partition's order.
            let now = poll_fn(|context| Poll::Ready(sent.poll_unpin(context))).await;
            sending.push_back(match now {
                Poll::Ready(sent) => std::future::ready(sent).boxed(),
                Poll::Pending => sent.boxed(),
            });
        }
    }

    fn note(&mut self, sent: Sent) -> Result<()> {
        let delivery = sent.delivery?;
        // A retried batch that the broker had already may be acknowledged without an offset. The
        // comparison with the end offsets afterwards verifies its position.
        if delivery.offset.0 >= 0 {
            self.expect(sent.partition, delivery.offset)?;
        }
        if let Some(next) = self.next.get_mut(&sent.partition) {
            *next = next.next();
        }
        let Published {
            amount,
            bytes,
            reencoded,
        } = &mut self.published;
        amount.groups += u64::from(sent.completes);
        amount.records += 1;
        amount.rows += sent.rows;
        *bytes += sent.bytes;
        *reencoded += u64::from(sent.reencoded);
        Ok(())
    }

    fn expect(&self, partition: Partition, found: Offset) -> Result<()> {
        let expected = self.next.get(&partition).copied().unwrap_or_default();
        if found == expected {
            return Ok(());
        }
        Err(Error::SharedTarget {
            topic: self.to.clone(),
            partition,
            found,
            expected,
        })
    }

    /// Sets the time at which the next group is due.
    fn paced(&mut self) {
        if let Some((interval, due)) = &mut self.pace {
            let earliest = Instant::now().checked_sub(CATCH_UP).unwrap_or(*due);
            *due = (*due + *interval).max(earliest);
        }
    }
}

/// Receives the next group once it is due.
async fn next(groups: &mut Receiver<Vec<Copied>>, due: Option<Instant>) -> Option<Vec<Copied>> {
    if let Some(due) = due {
        sleep_until(due).await;
    }
    groups.recv().await
}
