use std::collections::BTreeMap;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vintage_bus::{Bus, ConsumerLimits, Event, Record};
use vintage_control::{Name, Offset, Partition, PolicyAnnouncement, Topics};

use crate::error::Error;

/// Policy announcement as a producer receives it.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedAnnouncement {
    /// Announcement record of the learner.
    pub(crate) record: PolicyAnnouncement,
    /// True if the record was written after the producer began to follow the topic, so that it
    /// cannot be left over from an earlier start of the learner.
    pub(crate) fresh: bool,
}

/// Follows the announcements of `policy` from the beginning of the topic until `cancel`. Sends the
/// newest one to `news`, beginning once it has read every record that was there at the start.
pub(crate) async fn follow(
    bus: Bus,
    topics: Topics,
    policy: Name,
    client: String,
    news: watch::Sender<Option<ReceivedAnnouncement>>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let topic = topics.policies();
    let failed = |source| Error::bus(format!("follow {topic}"))(source);
    let watermarks = bus.watermarks(&topic).await.map_err(failed)?;
    let start = watermarks
        .iter()
        .map(|&(partition, low, _)| (partition, low))
        .collect();
    // End offsets of the partitions whose records from before the start were not all read yet.
    let mut past: BTreeMap<Partition, Offset> = watermarks
        .into_iter()
        .filter(|&(_, low, high)| low < high)
        .map(|(partition, _, high)| (partition, high))
        .collect();
    let mut newest = Newest {
        topic: topic.clone(),
        policy,
        known: None,
    };
    let send_newest = |newest: &Newest, fresh| {
        let record = newest.known.clone();
        news.send_replace(record.map(|record| ReceivedAnnouncement { record, fresh }));
    };
    let client = format!("{client}-policies");
    let mut consumer = bus
        .consumer(&client, &topic, start, ConsumerLimits::default())
        .map_err(failed)?;
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => break,
            event = consumer.next() => event.map_err(failed)?,
        };
        let record = match event {
            None => break,
            Some(Event::Record(record)) => record,
            // A partition's last offsets may hold no record, so the end-of-partition event counts
            // too.
            Some(Event::End { partition, .. }) => {
                if past.remove(&partition).is_some() && past.is_empty() {
                    send_newest(&newest, false);
                }
                continue;
            }
            Some(_) => continue,
        };
        let changed = newest.take(&record);
        if past
            .get(&record.partition)
            .is_some_and(|&high| record.offset.next() >= high)
        {
            past.remove(&record.partition);
            if past.is_empty() {
                send_newest(&newest, false);
            }
        } else if changed && past.is_empty() {
            send_newest(&newest, true);
        }
    }
    consumer.close();
    Ok(())
}

/// Newest announcement of a policy: the highest version, and among records of one version the last
/// in the log, because the learner repeats a version when its counts change.
struct Newest {
    topic: String,
    policy: Name,
    known: Option<PolicyAnnouncement>,
}

impl Newest {
    /// Keeps the record if it is newer than the known one; returns true if it was.
    fn take(&mut self, record: &Record) -> bool {
        if record
            .key
            .as_deref()
            .is_some_and(|key| key != self.policy.as_str().as_bytes())
        {
            return false;
        }
        let Some(payload) = &record.payload else {
            return false;
        };
        let announcement = match PolicyAnnouncement::read(payload) {
            Ok(announcement) => announcement,
            Err(why) => {
                self.skip(record, &why);
                return false;
            }
        };
        let newer =
            announcement.policy == self.policy && announcement.replaces(self.known.as_ref());
        if newer {
            self.known = Some(announcement);
        }
        newer
    }

    /// Logs a record that cannot be read; following continues with the next one.
    fn skip(&self, record: &Record, why: &str) {
        let Self { topic, policy, .. } = self;
        let Record {
            partition, offset, ..
        } = record;
        tracing::warn!(
            topic, %policy, %partition, %offset,
            "skipped an announcement: {why}"
        );
    }
}
