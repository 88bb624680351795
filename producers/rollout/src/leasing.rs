//! Leases of a producer, kept in step with the lead: grants are read, reports are sent.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use vintage_bus::{Bus, ConsumerLimits, Event, Header, Outgoing, Producer, Record};
use vintage_control::{
    CONTROL_FORMAT, Grants, Lease, Partition, PolicyVersion, SlotNumber, Topics,
};

use crate::{
    error::Error,
    lease_book::{Admission, LeaseBook},
};

/// Interval between reports while nothing changes. The lead counts a producer as gone after several
/// of them.
pub const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Minimum time between two reports: changes within it go into one.
pub const REPORT_AFTER: Duration = Duration::from_millis(5);

/// Leases of a producer, shared by its stages.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    book: Arc<Mutex<LeaseBook>>,
    /// Wakes the task that sends reports.
    changed: Arc<Notify>,
    /// Counts the grants read, for who waits for leases.
    granted: watch::Sender<u64>,
}

impl Leases {
    pub(crate) fn new(book: LeaseBook) -> Self {
        Self {
            book: Arc::new(Mutex::new(book)),
            changed: Arc::new(Notify::new()),
            granted: watch::Sender::new(0),
        }
    }

    /// Returns a receiver that changes with every new record of grants.
    pub(crate) fn granted(&self) -> watch::Receiver<u64> {
        self.granted.subscribe()
    }

    /// Begins up to `at_most` leases; see [`LeaseBook::begin`].
    pub(crate) fn begin(&self, newest: PolicyVersion, at_most: usize) -> Option<Admission> {
        self.book().begin(newest, at_most)
    }

    /// Returns the reason for which the lead refuses this producer, if it does.
    pub(crate) fn refused(&self) -> Option<String> {
        self.book().refused().map(str::to_owned)
    }

    pub(crate) fn take_back(&self, leases: &[Lease]) {
        self.book().take_back(leases);
    }

    pub(crate) fn published(&self, slot: SlotNumber) {
        self.book().published(slot);
        self.changed.notify_one();
    }

    pub(crate) fn failed(&self, slot: SlotNumber) {
        self.book().failed(slot);
        self.changed.notify_one();
    }

    fn book(&self) -> MutexGuard<'_, LeaseBook> {
        // No code panics while it holds the lock half-way through a change.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the grants topic until `cancel`.
    pub(crate) async fn follow(
        self,
        bus: Bus,
        topics: Topics,
        client: String,
        cancel: CancellationToken,
    ) -> Result<(), Error> {
        let topic = topics.grants();
        let producer = self.book().producer().to_owned();
        let failed = |source| Error::bus(format!("follow {topic}"))(source);
        // From the beginning: the records of other producers may have a later term.
        let start = bus.watermarks(&topic).await.map_err(failed)?;
        let start = start
            .into_iter()
            .map(|(partition, low, _)| (partition, low));
        let mut consumer = bus
            .consumer(
                &format!("{client}-grants"),
                &topic,
                start.collect(),
                ConsumerLimits::default(),
            )
            .map_err(failed)?;
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => break,
                event = consumer.next() => event.map_err(failed)?,
            };
            let record = match event {
                None => break,
                Some(Event::Record(record)) => record,
                Some(_) => continue,
            };
            let Some(payload) = &record.payload else {
                continue;
            };
            if let Some((policy, term)) = for_another(&record, &producer) {
                self.book().heed(policy, term);
                continue;
            }
            match Grants::read(payload) {
                Ok(grants) => {
                    if self.book().take(grants) {
                        self.granted.send_modify(|count| *count += 1);
                        self.changed.notify_one();
                    }
                }
                Err(reason) => tracing::warn!(
                    topic, partition = %record.partition, offset = %record.offset,
                    "skipped a record of grants: {reason}"
                ),
            }
        }
        consumer.close();
        Ok(())
    }

    /// Sends reports until `cancel`, and then a last one that gives back what was not begun.
    pub(crate) async fn report(
        self,
        producer: Producer,
        topics: Topics,
        cancel: CancellationToken,
    ) -> Result<(), Error> {
        let topic = topics.producers();
        loop {
            self.send(&producer, &topic, &topics).await?;
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(REPORT_EVERY) => {}
                () = self.changed.notified() => tokio::time::sleep(REPORT_AFTER).await,
            }
        }
        self.book().leave();
        self.send(&producer, &topic, &topics).await
    }

    async fn send(&self, producer: &Producer, topic: &str, topics: &Topics) -> Result<(), Error> {
        let heartbeat = self.book().report();
        let failed = |source| Error::bus(format!("report to {topic}"))(source);
        let json = serde_json::to_vec(&heartbeat).map_err(|source| Error::Report { source })?;
        let texts = [
            ("schema", CONTROL_FORMAT),
            ("content-type", "application/json"),
            ("run", topics.run.as_str()),
            ("policy", heartbeat.policy.as_str()),
        ];
        let headers = texts.into_iter().map(|(name, text)| Header {
            key: name.to_owned(),
            value: Some(Bytes::copy_from_slice(text.as_bytes())),
        });
        let record = Outgoing {
            partition: Some(Partition(0)),
            timestamp_ms: None,
            key: Some(Bytes::copy_from_slice(heartbeat.producer.as_bytes())),
            headers: headers.collect(),
            payload: Some(Bytes::from(json)),
        };
        producer.append(topic, record).await.map_err(failed)?;
        Ok(())
    }
}

/// Returns policy and term of a record for another producer than `producer`, by its key and headers.
/// Every producer reads the grants of all, and decodes its own alone. `None` for a record whose
/// payload has to say: one for this producer, or without these headers.
fn for_another<'a>(record: &'a Record, producer: &str) -> Option<(&'a str, u64)> {
    let key = record.key.as_deref()?;
    let header = |name: &str| {
        let mut found = record.headers.iter().filter(|header| header.key == name);
        str::from_utf8(found.next()?.value.as_deref()?).ok()
    };
    let (policy, term) = (header("policy")?, header(Grants::TERM_HEADER)?);
    let term = term.parse().ok()?;
    (key != producer.as_bytes()).then_some((policy, term))
}
