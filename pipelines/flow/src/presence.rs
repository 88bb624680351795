//! Sign of life of a learner in the topic of grants, by which a second process of the same policy
//! notices it at its start.
//!
//! A learner first writes a record of its own, then reads the topic up to it. Whoever wrote before
//! and still writes was there first. The topic has one partition, so of two learners that start at
//! the same moment exactly one finds the other before itself.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vintage_bus::{ConsumerLimits, Event, Header, Outgoing, Producer, Record};
use vintage_control::{
    CONTROL_FORMAT, GrantNumber, Grants, Name, Offset, Partition, ProducerWindow,
};
use vintage_settings::RunConfig;

use crate::{
    broker::Log,
    error::{Error, Result},
    event::{Events, RunEvent},
    host,
};

/// Interval between two signs of life.
const EVERY: Duration = Duration::from_secs(1);
/// Time within which a learner that lives is heard of.
const HEARD: Duration = Duration::from_millis(3500);
/// Longest wait for the acknowledgement of the last sign, which says that this process ends.
const LAST: Duration = Duration::from_secs(2);
/// Only partition of the topic of grants.
const PARTITION: Partition = Partition(0);

/// Signs of life of this process's learner, written until [`Presence::end`] or until it is dropped.
pub(crate) struct Presence {
    end: CancellationToken,
    beating: JoinHandle<()>,
}

impl Presence {
    /// Begins to give signs of life. `None` on the embedded broker, which no other process reaches.
    ///
    /// # Errors
    /// [`Error::LearnerRuns`] if another process trains the same policy on these topics.
    pub(crate) async fn claim(
        log: &Log,
        config: &RunConfig,
        events: &Events,
    ) -> Result<Option<Self>> {
        if log.bus.is_embedded() {
            return Ok(None);
        }
        let learner = &config.learner;
        let sign = Sign {
            producer: log.bus.producer("learner-presence")?,
            topic: log.topics.grants(),
            run: log.topics.run.clone(),
            policy: learner.policy.clone(),
            id: host::process_id(learner.name.as_str()),
        };
        let (policy, own) = (sign.policy.clone(), sign.id.clone());
        let topic = sign.topic.clone();
        let claimed = sign.append(false).await?;
        let end = CancellationToken::new();
        let beating = tokio::spawn(sign.repeat(end.clone()));
        let presence = Self { end, beating };

        let mut others = BTreeSet::new();
        let read = log.bus.read_whole(&topic, "learner-presence", |record| {
            if record.offset < claimed
                && let Some(seen) = presence_in(record, &policy, &own)
            {
                if seen.refused.is_some() {
                    others.remove(&seen.lead);
                } else {
                    others.insert(seen.lead);
                }
            }
        });
        let _marks = read.await?;
        if !others.is_empty() {
            let listening = "listening whether an earlier process of this learner still runs";
            let _nobody_listens = events.send(RunEvent::Phase(listening.to_owned()));
        }
        let alive = heard_of(log, &topic, &others, claimed.next(), &policy, &own).await?;
        let Some(theirs) = alive else {
            return Ok(Some(presence));
        };
        presence.end().await;
        Err(Error::LearnerRuns {
            learner: learner.name.clone(),
            policy,
            bootstrap: log.bus.bootstrap().to_owned(),
            topic,
            theirs,
        })
    }

    /// Says that this learner ends, so that the next one need not wait.
    pub(crate) async fn end(self) {
        self.end.cancel();
        let ended = tokio::time::timeout(LAST, self.beating).await;
        if ended.is_err() {
            tracing::debug!("the end of the learner was not noted: no broker answers");
        }
    }
}

/// Waits for a sign of life of one of the `others`; returns the first one that lives.
async fn heard_of(
    log: &Log,
    topic: &str,
    others: &BTreeSet<String>,
    from: Offset,
    policy: &Name,
    own: &str,
) -> Result<Option<String>> {
    if others.is_empty() {
        return Ok(None);
    }
    let start = vec![(PARTITION, from)];
    let limits = ConsumerLimits::default();
    let mut signs = log.bus.consumer("learner-presence", topic, start, limits)?;
    let listening = async {
        while let Some(event) = signs.next().await? {
            if let Event::Record(record) = event
                && let Some(seen) = presence_in(&record, policy, own)
                && seen.refused.is_none()
                && others.contains(&seen.lead)
            {
                return Ok(Some(seen.lead));
            }
        }
        Ok::<_, Error>(None)
    };
    let heard = tokio::time::timeout(HEARD, listening).await;
    signs.close();
    heard.unwrap_or(Ok(None))
}

/// Returns a record in which another learner of the policy speaks of itself.
fn presence_in(record: &Record, policy: &Name, own: &str) -> Option<Grants> {
    let grants = Grants::read(record.payload.as_deref()?).ok()?;
    let of_other = grants.is_presence() && grants.policy == *policy && grants.lead != own;
    of_other.then_some(grants)
}

/// Writer of signs of life.
struct Sign {
    producer: Producer,
    topic: String,
    run: Name,
    policy: Name,
    id: String,
}

impl Sign {
    async fn repeat(self, end: CancellationToken) {
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                () = tokio::time::sleep(EVERY) => {}
            }
            // A broker that is away is told of by whoever needs it.
            if let Err(error) = self.append(false).await {
                tracing::debug!("a sign of life was not written: {error}");
            }
        }
        if let Err(error) = self.append(true).await {
            tracing::debug!("the end of the learner was not noted: {error}");
        }
    }

    /// Writes a sign, or the last one, and returns its offset.
    async fn append(&self, last: bool) -> Result<Offset> {
        let grants = Grants {
            format: CONTROL_FORMAT.to_owned(),
            policy: self.policy.clone(),
            lead: self.id.clone(),
            producer: self.id.clone(),
            number: GrantNumber::default(),
            leases: Vec::new(),
            withdrawn: ProducerWindow::default(),
            refused: last.then(|| "the learner has ended".to_owned()),
        };
        let json = serde_json::to_vec(&grants)
            .map_err(|error| Error::Bug(format!("writing a record for {}: {error}", self.topic)))?;
        let texts = [
            ("schema", CONTROL_FORMAT),
            ("content-type", "application/json"),
            ("run", self.run.as_str()),
            ("policy", self.policy.as_str()),
        ];
        let headers = texts.into_iter().map(|(name, text)| Header {
            key: name.to_owned(),
            value: Some(Bytes::copy_from_slice(text.as_bytes())),
        });
        let record = Outgoing {
            partition: Some(PARTITION),
            timestamp_ms: None,
            key: Some(Bytes::copy_from_slice(self.id.as_bytes())),
            headers: headers.collect(),
            payload: Some(Bytes::from(json)),
        };
        Ok(self.producer.append(&self.topic, record).await?.offset)
    }
}
