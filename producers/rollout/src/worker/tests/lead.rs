//! Lead learner of a [`Stage`], which is the test: it grants leases and reads reports.

use tokio::time::timeout;
use vintage_bus::Event;
use vintage_control::{
    CONTROL_FORMAT, GrantNumber, Grants, Heartbeat, Lease, NumberSet, PolicyVersion,
    ProducerWindow, SlotNumber,
};

use super::stage::{BATCH, PATIENCE, Stage};

/// Id of the learner process that grants, unless a test says otherwise.
pub(super) const LEAD: &str = "learner-1";

/// Lease by slot, update and version.
pub(super) type LeaseOf = (u64, i64, u64);

/// Report of a producer as stored in the log.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) heartbeat: Heartbeat,
    /// Time at which it was sent, in milliseconds since the epoch.
    pub(super) sent_ms: i64,
}

impl Stage {
    /// Publishes the whole of a producer's leases, as the lead; returns the number of the record.
    pub(super) async fn grant(&self, producer: &str, leases: &[LeaseOf]) -> u64 {
        let number = self.granted.get() + 1;
        self.publish_grants(&self.grants(LEAD, number, producer, leases))
            .await;
        number
    }

    /// Refuses a producer, as the lead.
    pub(super) async fn refuse(&self, producer: &str, reason: &str) {
        let number = self.granted.get() + 1;
        let refusal = Grants {
            withdrawn: ProducerWindow::default(),
            refused: Some(reason.to_owned()),
            ..self.grants(LEAD, number, producer, &[])
        };
        self.publish_grants(&refusal).await;
    }

    /// Record of grants that is not published yet.
    pub(super) fn grants(
        &self,
        lead: &str,
        number: u64,
        producer: &str,
        leases: &[LeaseOf],
    ) -> Grants {
        let lease = |&(slot, batch, version): &LeaseOf| Lease {
            slot: SlotNumber(slot),
            batch,
            version: PolicyVersion(version),
        };
        Grants {
            format: CONTROL_FORMAT.to_owned(),
            policy: self.policy.clone(),
            lead: lead.to_owned(),
            producer: producer.to_owned(),
            number: GrantNumber {
                // Leads "l2" and "learner-2" are the processes of term 2.
                term: lead
                    .trim_start_matches(|letter: char| !letter.is_ascii_digit())
                    .parse()
                    .unwrap_or(1),
                record: number,
            },
            leases: leases.iter().map(lease).collect(),
            withdrawn: ProducerWindow::default(),
            refused: None,
        }
    }

    pub(super) async fn publish_grants(&self, grants: &Grants) {
        self.granted
            .set(self.granted.get().max(grants.number.record));
        let payload = serde_json::to_vec(grants).unwrap();
        self.publish_to_grants(&grants.producer, &payload).await;
    }

    pub(super) async fn publish_to_grants(&self, producer: &str, payload: &[u8]) {
        let payload = bytes::Bytes::copy_from_slice(payload);
        self.announcer
            .publish(
                &self.topics.grants(),
                producer.as_bytes(),
                Vec::new(),
                payload,
            )
            .await
            .unwrap();
    }

    /// Reads the next report of a producer, checked as the lead would.
    pub(super) async fn next_report(&mut self, producer: &str) -> Report {
        let waits = |report: &Report| report.heartbeat.producer == producer;
        if let Some(at) = self.unread.iter().position(waits) {
            return self.unread.remove(at).unwrap();
        }
        loop {
            let event = timeout(PATIENCE, self.reports.next())
                .await
                .expect("a report in time");
            let Some(Event::Record(record)) = event.unwrap() else {
                continue;
            };
            let heartbeat = Heartbeat::read(&record.payload.unwrap()).unwrap();
            assert_eq!(
                record.key.as_deref(),
                Some(heartbeat.producer.as_bytes()),
                "the topic is compacted by producer"
            );
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|h| (h.key.as_str(), h.value.as_deref().unwrap()))
                .collect();
            let run = self.topics.run.as_str();
            let expected = [
                ("schema", CONTROL_FORMAT),
                ("content-type", "application/json"),
                ("run", run),
                ("policy", self.policy.as_str()),
            ];
            assert_eq!(headers, expected.map(|(key, of)| (key, of.as_bytes())));
            assert_eq!(heartbeat.policy, self.policy);
            let next = self.reported.get(&heartbeat.producer).map(|last| last + 1);
            assert_eq!(heartbeat.number, next.unwrap_or(0));
            self.reported
                .insert(heartbeat.producer.clone(), heartbeat.number);
            let sent_ms = record.timestamp_ms.unwrap();
            let report = Report { heartbeat, sent_ms };
            if report.heartbeat.producer == producer {
                return report;
            }
            self.unread.push_back(report);
        }
    }

    /// Reads reports of a producer up to the first one that is as wanted.
    pub(super) async fn report_of(
        &mut self,
        producer: &str,
        wanted: impl Fn(&Heartbeat) -> bool,
    ) -> Heartbeat {
        loop {
            let heartbeat = self.next_report(producer).await.heartbeat;
            if wanted(&heartbeat) {
                return heartbeat;
            }
        }
    }

    /// Reads the last report of a producer that has ended, by which it leaves.
    pub(super) async fn last_report(&mut self, producer: &str) -> Heartbeat {
        let last = self.report_of(producer, |report| report.leaving).await;
        let later = |report: &Report| report.heartbeat.producer == producer;
        assert!(
            !self.unread.iter().any(later),
            "a report after the last one"
        );
        let topic = self.topics.producers();
        let marks = self.bus().watermarks(&topic).await.unwrap();
        let [(partition, _, end)] = marks[..] else {
            panic!("one partition: {marks:?}");
        };
        while self.reports.position()[&partition] < end {
            let event = timeout(PATIENCE, self.reports.next()).await.unwrap();
            if let Some(Event::Record(record)) = event.unwrap() {
                let later = Heartbeat::read(&record.payload.unwrap()).unwrap();
                assert_ne!(later.producer, producer, "a report after the last one");
            }
        }
        last
    }
}

/// Leases of these slots for any update, granted at a version.
pub(super) fn any(slots: impl IntoIterator<Item = u64>, version: u64) -> Vec<LeaseOf> {
    slots.into_iter().map(|slot| (slot, -1, version)).collect()
}

/// Leases of these slots under the exact rule: version max(0, b − k) samples batch b.
pub(super) fn exact(slots: impl IntoIterator<Item = u64>, k: u64) -> Vec<LeaseOf> {
    let lease = |slot: u64| {
        let batch = slot / BATCH;
        (slot, batch as i64, batch.saturating_sub(k))
    };
    slots.into_iter().map(lease).collect()
}

/// Numbers in a set of a report.
pub(super) fn numbers(window: &ProducerWindow) -> Vec<u64> {
    let set = NumberSet::from(window);
    set.runs().flat_map(|(first, last)| first..=last).collect()
}
