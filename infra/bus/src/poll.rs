//! Poll thread of a consumer. It never waits for the caller.
//!
//! Each partition has its own queue, which is not polled while the caller's buffer is full. The
//! consumer's main queue, with rebalances and errors, is polled all the time, so that the group
//! does not evict the member. librdkafka stops fetching for a queue that is full. Its `pause` would
//! do the same at a price: it discards prefetched records, and after a resume the broker thread may
//! sleep for up to a second before it fetches again.

use std::{
    collections::BTreeSet,
    sync::Arc,
    thread::{self, Thread},
    time::Duration,
};

use rdkafka::{
    Message as _, Offset as Place, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, base_consumer::PartitionQueue},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use vintage_control::{Offset, Partition};

use crate::{
    error::{Error, Result, is_connectivity, is_denial, is_refusal, reason_of},
    feed::{Event, Feed, Item},
    group,
    rebalance::Context,
    record::Record,
    spec::ConsumerParams,
};

/// Longest sleep of an idle poll thread. Queues wake it when they receive something; this bounds
/// the cost of a lost wake-up.
const IDLE: Duration = Duration::from_millis(50);
/// Most records taken from one partition before the next partition is polled.
const TURN: usize = 64;

type Native = BaseConsumer<Context>;
type PartitionQueues = Vec<PartitionQueue<Context>>;

/// Guard that reports a panic of the poll thread as [`Error::Stopped`], so that the caller does not
/// wait for ever.
struct Unwinding<'a>(&'a Feed);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(Error::Stopped {
                what: "a consumer's poll thread",
            });
        }
    }
}

pub(crate) fn run(reading: &ConsumerParams, mut native: Native, feed: &Feed) {
    let _unwinding = Unwinding(feed);
    let thread = thread::current();
    feed.polled_by(thread.clone());
    let woken = thread.clone();
    native.set_nonempty_callback(move || woken.unpark());
    if let Err(error) = poll_until_stopped(reading, &Arc::new(native), feed, &thread) {
        feed.fail(error);
    }
}

fn poll_until_stopped(
    reading: &ConsumerParams,
    native: &Arc<Native>,
    feed: &Feed,
    thread: &Thread,
) -> Result<()> {
    let mut partition_queues = split(reading, native, thread)?;
    while !feed.stopping() {
        let mut idle = true;
        // The main queue holds records only if they arrived before their partition got a queue of
        // its own.
        while let Some(polled) = native.poll(Duration::ZERO) {
            idle = false;
            take(reading, native, feed, polled)?;
        }
        let grown = native.context().take_grown();
        if !grown.is_empty() {
            grow(reading, native, feed, &grown)?;
            partition_queues = split(reading, native, thread)?;
        }
        if native.context().take_changed() {
            partition_queues = split(reading, native, thread)?;
        }
        if let Some(offsets) = feed.take_reported()
            && let Err(error) = group::report(native.as_ref(), &reading.topic, &offsets)
        {
            tracing::debug!(topic = reading.topic, "telling the group: {error}");
        }
        for queue in &partition_queues {
            for _ in 0..TURN {
                if feed.is_full() {
                    break;
                }
                let Some(polled) = queue.poll(Duration::ZERO) else {
                    break;
                };
                idle = false;
                take(reading, native, feed, polled)?;
            }
        }
        if idle {
            thread::park_timeout(IDLE);
        }
    }
    Ok(())
}

/// Starts to read partitions that were added to the topic, from offset 0. The client discovers them
/// when it refreshes its metadata (`topic.metadata.refresh.interval.ms`).
fn grow(
    reading: &ConsumerParams,
    native: &Native,
    feed: &Feed,
    grown: &BTreeSet<Partition>,
) -> Result<()> {
    let mut added = TopicPartitionList::new();
    for partition in grown {
        added
            .add_partition_offset(&reading.topic, partition.0, Place::Offset(0))
            .map_err(|error| fatal(reading, native, &error))?;
    }
    native
        .incremental_assign(&added)
        .map_err(|error| fatal(reading, native, &error))?;
    let given: Vec<_> = grown.iter().map(|at| (*at, Offset(0))).collect();
    native.context().next().extend(given.iter().copied());
    let (topic, client) = (&reading.topic, &reading.client);
    let names: Vec<_> = grown.iter().map(ToString::to_string).collect();
    tracing::warn!(
        topic,
        client,
        partitions = names.join(","),
        "the topic has grown: its new partitions are read too, from their first record"
    );
    if let Some(reader) = &feed.reader {
        for (partition, offset) in &given {
            reader.given(*partition, *offset);
        }
    }
    feed.send(Item::event(Event::Assigned(given)));
    Ok(())
}

/// Creates a separate queue for every partition assigned to this consumer.
fn split(
    reading: &ConsumerParams,
    native: &Arc<Native>,
    thread: &Thread,
) -> Result<PartitionQueues> {
    let held = native
        .assignment()
        .map_err(|error| fatal(reading, native, &error))?;
    let elements = held.elements_for_topic(&reading.topic);
    let partition_queues = elements.iter().map(|element| {
        let queue = native.split_partition_queue(&reading.topic, element.partition());
        let mut queue = queue.ok_or(Error::Stopped {
            what: "the queue of a partition",
        })?;
        let woken = thread.clone();
        queue.set_nonempty_callback(move || woken.unpark());
        Ok(queue)
    });
    partition_queues.collect()
}

fn take(
    reading: &ConsumerParams,
    native: &Native,
    feed: &Feed,
    polled: Result<BorrowedMessage<'_>, KafkaError>,
) -> Result<()> {
    match polled {
        Ok(message) => {
            check_order(reading, native, &message)?;
            feed.send(Item::event(Event::Record(Record::copied(&message))));
            Ok(())
        }
        Err(KafkaError::PartitionEOF(partition)) => {
            end(reading, native, feed, Partition(partition));
            Ok(())
        }
        Err(error) => judge(reading, native, &error),
    }
}

/// Sends [`Event::End`] for a partition that was read to its end. The client's position can be past
/// the last record, because a transaction marker after it also occupies an offset.
fn end(reading: &ConsumerParams, native: &Native, feed: &Feed, partition: Partition) {
    let passed = native.position().ok().and_then(|held| {
        let held = held.find_partition(&reading.topic, partition.0)?.offset();
        match held {
            Place::Offset(passed) => Some(Offset(passed)),
            _ => None,
        }
    });
    let mut held = native.context().next();
    let Some(next) = held.get_mut(&partition) else {
        return; // the partition was revoked meanwhile
    };
    *next = passed.map_or(*next, |passed| passed.max(*next));
    let next = *next;
    drop(held);
    feed.send(Item::event(Event::End { partition, next }));
}

/// Checks that a record's offset is not below the expected one. On the embedded broker, whose log
/// has no holes, it must equal the expected one.
fn check_order(
    reading: &ConsumerParams,
    native: &Native,
    message: &BorrowedMessage<'_>,
) -> Result<()> {
    let (partition, found) = (Partition(message.partition()), Offset(message.offset()));
    let Some(expected) = native.context().next().insert(partition, found.next()) else {
        return Ok(());
    };
    match step(expected, found, reading.gate.is_some()) {
        Step::Good => Ok(()),
        Step::Hole => Err(Error::Hole {
            topic: reading.topic.clone(),
            partition,
            expected,
            found,
        }),
        Step::Back => Err(Error::Consume {
            topic: reading.topic.clone(),
            client: reading.client.clone(),
            reason: format!(
                "partition {partition} went back from offset {expected} to {found}: \
                 the topic lost acknowledged records"
            ),
        }),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Good,
    Hole,
    Back,
}

/// Classifies an offset against the expected one. Real logs have offsets without a record
/// (transaction markers, compacted records), so a gap is an error only if the log is `contiguous`.
fn step(expected: Offset, found: Offset, contiguous: bool) -> Step {
    match found.cmp(&expected) {
        std::cmp::Ordering::Less => Step::Back,
        std::cmp::Ordering::Greater if contiguous => Step::Hole,
        _ => Step::Good,
    }
}

/// Decides whether an error ends the consumer. librdkafka recovers from most errors by itself; the
/// ones returned here are those from which it does not recover or after which it would skip
/// records.
fn judge(reading: &ConsumerParams, native: &Native, error: &KafkaError) -> Result<()> {
    use RDKafkaErrorCode as C;
    if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
        return Err(fatal(reading, native, error));
    }
    match error.rdkafka_error_code() {
        Some(C::AutoOffsetReset | C::OffsetOutOfRange) => Err(out_of_range(reading, native, error)),
        Some(
            C::UnknownTopic | C::UnknownTopicOrPartition | C::UnknownPartition | C::UnknownTopicId,
        ) => Err(Error::NoSuchTopic {
            topic: reading.topic.clone(),
            bootstrap: reading.settings.bootstrap.clone(),
        }),
        Some(code) if is_denial(code) => Err(Error::Denied {
            action: format!("reading topic {} as {}", reading.topic, reading.client),
            bootstrap: reading.settings.bootstrap.clone(),
            reason: code.to_string(),
        }),
        Some(
            C::BadMessage
            | C::InvalidMessage
            | C::InvalidMessageSize
            | C::MessageSizeTooLarge
            | C::BadCompression
            | C::NotImplemented
            | C::UnsupportedFeature
            | C::UnsupportedVersion
            | C::UnsupportedCompressionType
            | C::Authentication
            | C::SaslAuthenticationFailed
            | C::FencedInstanceId
            | C::InconsistentGroupProtocol
            | C::LogTruncation,
        ) => Err(fatal(reading, native, error)),
        Some(code) if is_connectivity(code) || is_refusal(code) => Ok(()), // `Log` reports it
        _ => {
            let (topic, client) = (&reading.topic, &reading.client);
            tracing::warn!(topic, client, "{error}");
            Ok(())
        }
    }
}

fn fatal(reading: &ConsumerParams, native: &Native, error: &KafkaError) -> Error {
    let reason = reason_of(error);
    Error::Consume {
        topic: reading.topic.clone(),
        client: reading.client.clone(),
        reason: match native.context().log.last_error() {
            Some(words) if !words.contains(&reason) => format!("{reason}: {words}"),
            Some(words) => words,
            None => reason,
        },
    }
}

/// Finds the partition whose offset is out of range. The client's error does not name it, so the
/// watermarks of each partition are compared with its next offset.
fn out_of_range(reading: &ConsumerParams, native: &Native, error: &KafkaError) -> Error {
    let next: Vec<_> = native
        .context()
        .next()
        .iter()
        .map(|(p, o)| (*p, *o))
        .collect();
    for (partition, offset) in next {
        match native.fetch_watermarks(&reading.topic, partition.0, reading.timeout) {
            Ok((low, high)) if offset.0 < low || offset.0 > high => {
                return Error::OffsetOutOfRange {
                    topic: reading.topic.clone(),
                    partition,
                    offset,
                    low: Offset(low),
                    high: Offset(high),
                };
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("asking for the offsets of {}: {error}", reading.topic),
        }
    }
    fatal(reading, native, error)
}

#[cfg(test)]
mod tests {
    use vintage_control::Offset;

    use super::{Step, step};

    #[test]
    fn holes_are_errors_on_the_embedded_broker_only() {
        assert_eq!(step(Offset(7), Offset(7), true), Step::Good);
        assert_eq!(step(Offset(7), Offset(9), true), Step::Hole);
        assert_eq!(step(Offset(7), Offset(9), false), Step::Good);
        assert_eq!(step(Offset(7), Offset(6), false), Step::Back);
        assert_eq!(step(Offset(7), Offset(6), true), Step::Back);
    }
}
