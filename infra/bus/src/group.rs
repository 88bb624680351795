//! Committed offsets of consumer groups. They are written for tools that monitor the brokers; this
//! program never resumes from them.

use std::{collections::BTreeMap, time::Instant};

use rdkafka::{
    Offset as Native, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    error::KafkaError,
};
use vintage_control::{Offset, Partition};

use crate::{
    bus::Bus,
    error::{Error, Result, code_of, is_connectivity},
    settings::{FAILOVER, PROPAGATION_LOOK},
};

impl Bus {
    /// Returns the offsets that a consumer group has committed for a topic, by partition.
    /// Partitions without a committed offset are absent.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`]; [`Error::Unreachable`] if the brokers do not answer.
    pub async fn group_offsets(
        &self,
        group: &str,
        topic: &str,
    ) -> Result<BTreeMap<Partition, Offset>> {
        let mut asked = TopicPartitionList::new();
        for partition in self.partitions(topic).await? {
            asked.add_partition(topic, partition.0);
        }
        let timeout = self.timeout();
        let mut config = self.settings().probe();
        config.set("group.id", group);
        let begun = Instant::now();
        let committed = loop {
            let (config, asked) = (config.clone(), asked.clone());
            let answer = tokio::task::spawn_blocking(move || {
                let client: BaseConsumer = config.create()?;
                client.committed_offsets(asked, timeout)
            });
            let answer = answer.await.map_err(|_| Error::Stopped {
                what: "a question to the brokers",
            })?;
            match answer {
                Ok(committed) => break committed,
                // A new group, or one whose coordinator failed, has no coordinator for a moment.
                Err(error)
                    if begun.elapsed() < FAILOVER
                        && code_of(&error).is_some_and(is_connectivity) =>
                {
                    tokio::time::sleep(PROPAGATION_LOOK).await;
                }
                Err(error) => {
                    let action = format!("asking for the offsets of group {group}");
                    return Err(self.refused(&action, &error, begun.elapsed()));
                }
            }
        };
        let elements = committed.elements_for_topic(topic);
        let known = elements
            .iter()
            .filter_map(|element| match element.offset() {
                Native::Offset(offset) => Some((Partition(element.partition()), Offset(offset))),
                _ => None,
            });
        Ok(known.collect())
    }
}

/// Commits offsets to a consumer's group asynchronously; the result is not awaited.
pub(crate) fn report<C: ConsumerContext>(
    native: &BaseConsumer<C>,
    topic: &str,
    offsets: &BTreeMap<Partition, Offset>,
) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, next) in offsets {
        list.add_partition_offset(topic, partition.0, Native::Offset(next.0))?;
    }
    native.commit(&list, CommitMode::Async)
}
