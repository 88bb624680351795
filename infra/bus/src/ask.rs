//! Questions about the cluster and its topics.

use std::time::{Duration, Instant};

use rdkafka::{
    Offset as Native, TopicPartitionList,
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::MetadataTopic,
};
use vintage_control::{Offset, Partition};

use crate::{
    Bus, Error, Result,
    bus::Probe,
    error::{code_of, is_connectivity, is_denial},
};

/// A topic that was just created is known to one broker before the next.
const PROPAGATION: Duration = Duration::from_secs(1);
/// How soon it is seen that a broker refuses to talk: the question itself is not told.
const REFUSAL_LOOK: Duration = Duration::from_millis(500);
pub(crate) const PROPAGATION_LOOK: Duration = Duration::from_millis(50);
/// A partition whose leader fell has another within the session of a node (9 s) and an election.
pub(crate) const FAILOVER: Duration = Duration::from_secs(30);

/// Where the copies of a partition are; brokers by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// Which partition.
    pub partition: Partition,
    /// Who takes its records, unless it has no leader at the moment.
    pub leader: Option<i32>,
    /// All that hold a copy.
    pub brokers: Vec<i32>,
    /// Those whose copy is whole.
    pub in_sync: Vec<i32>,
}

impl Bus {
    /// Asks the cluster for its brokers.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if none answers within `timeout`.
    pub async fn health(&self, timeout: Duration) -> Result<()> {
        self.brokers(timeout).await.map(drop)
    }

    /// How many brokers the cluster has at the moment.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if none answers within `timeout`, [`Error::Login`] as soon as one
    /// refuses to talk.
    pub async fn brokers(&self, timeout: Duration) -> Result<usize> {
        let begun = Instant::now();
        loop {
            let left = timeout.saturating_sub(begun.elapsed());
            let turn = left.min(REFUSAL_LOOK);
            let asked = self.probe(move |probe| probe.fetch_metadata(None, turn));
            let error = match asked.await? {
                Ok(metadata) => return Ok(metadata.brokers().len()),
                Err(error) => self.refused("asking for the brokers", &error, timeout),
            };
            if !matches!(error, Error::Unreachable { .. }) || left == turn {
                return Err(error);
            }
        }
    }

    /// Topics that the cluster has, its own bookkeeping apart, sorted.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no broker answers.
    pub async fn topics(&self) -> Result<Vec<String>> {
        let timeout = self.timeout();
        let metadata = self
            .probe(move |probe| probe.fetch_metadata(None, timeout))
            .await?
            .map_err(|error| self.refused("asking for all topics", &error, timeout))?;
        let names = metadata
            .topics()
            .iter()
            .map(rdkafka::metadata::MetadataTopic::name);
        let mut names: Vec<_> = names
            .filter(|name| !name.starts_with("__"))
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The partitions of a topic, ascending.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`] if there is no such topic.
    pub async fn partitions(&self, topic: &str) -> Result<Vec<Partition>> {
        let begun = Instant::now();
        loop {
            match self.look_up(topic).await {
                Ok(Some(partitions)) => return Ok(partitions),
                Ok(None) if self.is_embedded() || begun.elapsed() > PROPAGATION => {
                    return Err(Error::NoSuchTopic {
                        topic: topic.to_owned(),
                        bootstrap: self.bootstrap().to_owned(),
                    });
                }
                Ok(None) => {}
                // The node that was asked may have fallen; a refused connection is told at once.
                Err(Error::Unreachable { .. }) if begun.elapsed() < FAILOVER => {}
                Err(error) => return Err(error),
            }
            // Metadata is eventually consistent and there is nothing to wait on.
            tokio::time::sleep(PROPAGATION_LOOK).await;
        }
    }

    /// Whether the brokers know a topic now: one that was just created may take a moment.
    pub async fn has_topic(&self, topic: &str) -> Result<bool> {
        Ok(self.look_up(topic).await?.is_some())
    }

    pub(crate) async fn look_up(&self, topic: &str) -> Result<Option<Vec<Partition>>> {
        let timeout = self.timeout();
        let name = topic.to_owned();
        let metadata = self
            .probe(move |probe| probe.fetch_metadata(Some(&name), timeout))
            .await?
            .map_err(|error| self.refused(&format!("asking for topic {topic}"), &error, timeout))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None | Some(RDKafkaErrorCode::LeaderNotAvailable) => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(None),
            Some(code) if is_denial(code) => {
                return Err(self.denied(format!("asking for topic {topic}"), code));
            }
            Some(code) => {
                return Err(Error::Request {
                    action: format!("asking for topic {topic}"),
                    bootstrap: self.bootstrap().to_owned(),
                    detail: code.to_string(),
                    retryable: is_connectivity(code),
                });
            }
        }
        let mut partitions: Vec<_> = found
            .partitions()
            .iter()
            .map(|partition| Partition(partition.id()))
            .collect();
        partitions.sort_unstable();
        Ok((!partitions.is_empty()).then_some(partitions))
    }

    /// Where the copies of a topic's partitions are, ascending.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`] if there is no such topic.
    pub async fn replicas(&self, topic: &str) -> Result<Vec<Replicas>> {
        self.partitions(topic).await?;
        let timeout = self.timeout();
        let name = topic.to_owned();
        let action = format!("asking for the copies of topic {topic}");
        let metadata = self
            .probe(move |probe| probe.fetch_metadata(Some(&name), timeout))
            .await?
            .map_err(|error| self.refused(&action, &error, timeout))?;
        let of_topic = metadata.topics().iter().find(|found| found.name() == topic);
        let mut replicas: Vec<_> = of_topic
            .into_iter()
            .flat_map(MetadataTopic::partitions)
            .map(|partition| Replicas {
                partition: Partition(partition.id()),
                leader: (partition.leader() >= 0).then_some(partition.leader()),
                brokers: partition.replicas().to_vec(),
                in_sync: partition.isr().to_vec(),
            })
            .collect();
        replicas.sort_unstable_by_key(|replicas| replicas.partition);
        Ok(replicas)
    }

    /// For every partition, ascending, the first offset whose record was produced at or after
    /// `ms` (milliseconds since the epoch); the first one not yet written if there is none. A
    /// log whose producers' clocks differ is not sorted by time: later offsets may be older.
    pub async fn offsets_at_time(&self, topic: &str, ms: i64) -> Result<Vec<(Partition, Offset)>> {
        let marks = self.watermarks(topic).await?;
        let timeout = self.timeout();
        let action = format!("asking for the offsets of topic {topic} at a time");
        let mut asked = TopicPartitionList::with_capacity(marks.len());
        for (partition, _, _) in &marks {
            asked
                .add_partition_offset(topic, partition.0, Native::Offset(ms.max(0)))
                .map_err(|error| self.refused(&action, &error, timeout))?;
        }
        let found = self
            .probe(move |probe| probe.offsets_for_times(asked, timeout))
            .await?
            .map_err(|error| self.refused(&action, &error, timeout))?;
        marks
            .into_iter()
            .map(|(partition, low, high)| {
                let element = found.find_partition(topic, partition.0);
                let Some(element) = element else {
                    return Ok((partition, high));
                };
                element
                    .error()
                    .map_err(|error| self.refused(&action, &error, timeout))?;
                // What retention takes meanwhile is not there to be read.
                Ok(match element.offset() {
                    Native::Offset(offset) => (partition, Offset(offset).max(low)),
                    _ => (partition, high),
                })
            })
            .collect()
    }

    /// The cluster's own id, which no other cluster has. Asks once; later calls find it known.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no broker answers.
    pub async fn cluster_id(&self) -> Result<String> {
        let timeout = self.timeout();
        let id = self
            .probe(move |probe| Ok(probe.client().fetch_cluster_id(timeout)))
            .await?
            .map_err(|error| self.refused("asking for the cluster's id", &error, timeout))?;
        id.ok_or_else(|| Error::Unreachable {
            bootstrap: self.bootstrap().to_owned(),
            waited: timeout,
            detail: "no cluster id".into(),
        })
    }

    /// First offset held and first offset not yet written, for every partition, ascending.
    pub async fn watermarks(&self, topic: &str) -> Result<Vec<(Partition, Offset, Offset)>> {
        let partitions = self.partitions(topic).await?;
        let timeout = self.timeout();
        let mut marks = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let name = topic.to_owned();
            let ask = move |probe: &Probe| probe.fetch_watermarks(&name, partition.0, timeout);
            let (low, high) = self.ask_leader(topic, partition, ask).await?;
            marks.push((partition, Offset(low), Offset(high)));
        }
        Ok(marks)
    }

    /// Asks until the leader of a partition answers. A topic may be so new that the node believed
    /// to lead does not know it yet, and a leader that fell is replaced after a while.
    async fn ask_leader<T: Send + 'static>(
        &self,
        topic: &str,
        partition: Partition,
        ask: impl Fn(&Probe) -> Result<T, KafkaError> + Clone + Send + 'static,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            let error = match self.probe(ask.clone()).await? {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !has_no_leader(&error) || begun.elapsed() > FAILOVER {
                let action =
                    format!("asking for the offsets of topic {topic} partition {partition}");
                return Err(self.refused(&action, &error, begun.elapsed()));
            }
            tokio::time::sleep(PROPAGATION_LOOK).await;
            // Who leads by now; the client would go on asking whom it knows.
            self.look_up(topic).await?;
        }
    }
}

/// Whether the node asked does not lead the partition, none does at the moment, or one does so newly
/// that it cannot say yet where the partition ends.
fn has_no_leader(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as C;
    code_of(error).is_some_and(|code| {
        is_connectivity(code)
            || matches!(
                code,
                C::UnknownTopicOrPartition
                    | C::UnknownPartition
                    | C::ReplicaNotAvailable
                    | C::OffsetNotAvailable
                    | C::FencedLeaderEpoch
                    | C::UnknownLeaderEpoch
            )
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, error::Error};

    use rdkafka::{
        mocking::MockCluster,
        types::{RDKafkaApiKey, RDKafkaRespErr},
    };
    use vintage_control::{Offset, Partition};

    use crate::Bus;

    /// As on three nodes whose topic is a moment old, or whose leader has just fallen.
    #[tokio::test]
    async fn offsets_are_asked_for_until_there_is_a_leader() -> Result<(), Box<dyn Error>> {
        let nodes = MockCluster::new(3)?;
        nodes.create_topic("new", 2, 3)?;
        let refusals = [
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__DESTROY_BROKER,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
        ];
        nodes.request_errors(RDKafkaApiKey::ListOffsets, &refusals.repeat(4));
        let bus = Bus::connect(&nodes.bootstrap_servers(), &BTreeMap::new())?;
        let empty = |number| (Partition(number), Offset(0), Offset(0));
        assert_eq!(bus.watermarks("new").await?, [empty(0), empty(1)]);
        Ok(())
    }
}
