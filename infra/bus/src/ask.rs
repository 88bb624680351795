//! Read-only requests about the cluster and its topics: brokers, partitions, replicas, offsets.

use std::time::{Duration, Instant};

use rdkafka::{
    Offset as Native, TopicPartitionList,
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::{MetadataBroker, MetadataTopic},
};
use vintage_control::{Offset, Partition};

use crate::{
    bus::{Bus, Probe},
    error::{Error, Result, code_of, is_connectivity, is_denial},
    settings::{FAILOVER, PROPAGATION_LOOK},
};

/// Time after which a topic that no broker reports is taken to be absent. Brokers learn of a new
/// topic one after the other.
const PROPAGATION: Duration = Duration::from_secs(1);
/// Interval at which a request is interrupted to check whether a broker refused the connection. The
/// request itself does not report that.
const REFUSAL_LOOK: Duration = Duration::from_millis(500);

/// Replicas of a partition; brokers are given by their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// Partition of the topic.
    pub partition: Partition,
    /// Broker that leads the partition; `None` if it has no leader at the moment.
    pub leader: Option<i32>,
    /// Brokers that hold a replica.
    pub brokers: Vec<i32>,
    /// Brokers whose replica is in sync.
    pub in_sync: Vec<i32>,
}

impl Bus {
    /// Checks that the cluster answers, by asking for its brokers.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if none answers within `timeout`.
    pub async fn health(&self, timeout: Duration) -> Result<()> {
        self.brokers(timeout).await.map(drop)
    }

    /// Returns the number of brokers that the cluster has at the moment.
    ///
    /// # Errors
    /// Those of [`Bus::broker_ids`].
    pub async fn brokers(&self, timeout: Duration) -> Result<usize> {
        Ok(self.broker_ids(timeout).await?.len())
    }

    /// Returns the ids of the brokers that the cluster has at the moment.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if none answers within `timeout`; [`Error::Login`] as soon as one
    /// refuses the connection.
    pub async fn broker_ids(&self, timeout: Duration) -> Result<Vec<i32>> {
        let begun = Instant::now();
        loop {
            let left = timeout.saturating_sub(begun.elapsed());
            let turn = left.min(REFUSAL_LOOK);
            let asked = self.probe(move |probe| probe.fetch_metadata(None, turn));
            let error = match asked.await? {
                Ok(metadata) => {
                    return Ok(metadata.brokers().iter().map(MetadataBroker::id).collect());
                }
                Err(error) => self.refused("asking for the brokers", &error, timeout),
            };
            if !matches!(error, Error::Unreachable { .. }) || left == turn {
                return Err(error);
            }
        }
    }

    /// Returns the names of the cluster's topics, sorted, without internal ones (`__…`).
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

    /// Returns the partitions of a topic, ascending. Waits up to 1 s for a topic that was just
    /// created.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`] if the topic does not exist.
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
                // The node asked may have failed; a refused connection is reported at once.
                Err(Error::Unreachable { .. }) if begun.elapsed() < FAILOVER => {}
                Err(error) => return Err(error),
            }
            // Metadata is eventually consistent and there is nothing to wait on.
            tokio::time::sleep(PROPAGATION_LOOK).await;
        }
    }

    /// Returns true if the brokers know a topic now. A topic that was just created may not be known
    /// for a moment.
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
                    reason: code.to_string(),
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

    /// Returns the replicas of a topic's partitions, ascending by partition.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`] if the topic does not exist.
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

    /// Returns for every partition, ascending, the first offset whose record has a timestamp of
    /// `ms` (milliseconds since the epoch) or later; the high watermark of [`Bus::watermarks`] if
    /// there is none. Where producers' clocks differ, records are not sorted by time, and later
    /// offsets may be older.
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
                // Retention may have deleted the offset meanwhile.
                Ok(match element.offset() {
                    Native::Offset(offset) => (partition, Offset(offset).max(low)),
                    _ => (partition, high),
                })
            })
            .collect()
    }

    /// Returns the id of the cluster, which is unique to it. Later calls use librdkafka's cached
    /// value.
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
            reason: "no cluster id".into(),
        })
    }

    /// Returns the first offset held and the high watermark of every partition, ascending. The high
    /// watermark is the first offset that cannot be read yet: the log's end, or the first offset of
    /// an open transaction (isolation level `read_committed`).
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

    /// Repeats a request until the leader of a partition answers. The node asked may not know a new
    /// topic yet, and a failed leader is replaced only after a while.
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
            // Refreshes the client's knowledge of the leader; otherwise it would ask the same node
            // again.
            self.look_up(topic).await?;
        }
    }
}

/// Returns true if the node asked does not lead the partition, if there is no leader at the moment,
/// or if a new leader does not know the partition's end yet.
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

    use crate::bus::Bus;

    /// Offset requests are repeated until a leader answers, as on three nodes with a new topic or a
    /// leader that has just failed.
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
