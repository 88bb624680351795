//! Administration of topics: creates, checks, empties and deletes them.

use std::time::{Duration, Instant};

use rdkafka::{
    Offset as Native, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
};
use vintage_control::{Offset, Partition};

use crate::{
    bus::Bus,
    error::{Error, Result, is_connectivity, is_denial},
    settings::FAILOVER,
    topics::TopicSpec,
};

/// Wait before a failed creation of topics is repeated.
const RETRY: Duration = Duration::from_millis(250);

impl Bus {
    /// Creates missing topics and checks existing ones: each must have at least the specified
    /// partitions, accept records as large, and keep them. Logs a warning where records may be
    /// lost.
    pub async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<()> {
        self.health(self.timeout()).await?;
        let mut missing = Vec::new();
        for topic in topics {
            match self.look_up(&topic.name).await? {
                Some(partitions) => self.check_topic(topic, partitions.len()).await?,
                None => missing.push(topic),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        if let Some(mock) = self.mock() {
            for topic in missing {
                mock.create(topic).await?;
            }
            return Ok(());
        }
        let begun = Instant::now();
        loop {
            let error = match self.create(&missing).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let passes_within = match &error {
                // A broker that missed its heartbeats on a busy machine gets no replicas until the
                // controllers have heard from it again.
                error if error.lacks_brokers() => self.timeout(),
                // The controller asked may have failed, or not every node knows the new topic yet.
                Error::NoSuchTopic { .. } => FAILOVER,
                error if error.is_retryable() => FAILOVER,
                _ => return Err(error),
            };
            if begun.elapsed() > passes_within {
                return Err(error);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn create(&self, topics: &[&TopicSpec]) -> Result<()> {
        let timeout = self.timeout();
        let admin = self.admin()?;
        let new: Vec<_> = topics
            .iter()
            .map(|topic| {
                let replication = TopicReplication::Fixed(topic.replication);
                let new = NewTopic::new(&topic.name, topic.partitions, replication);
                topic
                    .config
                    .iter()
                    .fold(new, |new, (key, value)| new.set(key, value))
            })
            .collect();
        let options = AdminOptions::new()
            .request_timeout(Some(timeout))
            .operation_timeout(Some(timeout));
        let created = admin.create_topics(&new, &options).await;
        drop_elsewhere(admin);
        let created = created.map_err(|error| self.refused("creating topics", &error, timeout))?;
        for result in created {
            match result {
                // Another process created it first; its topic is checked below.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) if is_denial(code) => {
                    return Err(self.denied(format!("creating topic {topic}"), code));
                }
                Err((topic, code)) => {
                    return Err(Error::Request {
                        action: format!("creating topic {topic}"),
                        bootstrap: self.bootstrap().to_owned(),
                        reason: code.to_string(),
                        retryable: is_connectivity(code),
                    });
                }
            }
        }
        for topic in topics {
            let partitions = self.partitions(&topic.name).await?;
            self.check_topic(topic, partitions.len()).await?;
        }
        Ok(())
    }

    /// Deletes a topic and all its records.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        let timeout = self.timeout();
        let admin = self.admin()?;
        let options = AdminOptions::new()
            .request_timeout(Some(timeout))
            .operation_timeout(Some(timeout));
        let deleted = admin.delete_topics(&[topic], &options).await;
        drop_elsewhere(admin);
        let action = format!("deleting topic {topic}");
        let deleted = deleted.map_err(|error| self.refused(&action, &error, timeout))?;
        match deleted.into_iter().next() {
            // An earlier attempt whose answer was lost has deleted it.
            Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) => Ok(()),
            Some(Err((_, code))) => Err(Error::Request {
                action,
                bootstrap: self.bootstrap().to_owned(),
                reason: code.to_string(),
                retryable: is_connectivity(code),
            }),
            _ => Ok(()),
        }
    }

    /// Deletes the records of a topic below the given offset of each partition, as retention does.
    /// Used for records that the archive holds.
    ///
    /// # Errors
    /// [`Error::Request`] if the records of a partition could not be deleted; [`Error::Denied`],
    /// [`Error::Login`] or [`Error::Unreachable`] as for other requests.
    pub async fn delete_records(&self, topic: &str, before: &[(Partition, Offset)]) -> Result<()> {
        let timeout = self.timeout();
        let action = format!("deleting records of topic {topic}");
        let refused = |error: KafkaError| self.refused(&action, &error, timeout);
        let mut asked = TopicPartitionList::with_capacity(before.len());
        for (partition, offset) in before {
            asked
                .add_partition_offset(topic, partition.0, Native::Offset(offset.0))
                .map_err(refused)?;
        }
        let admin = self.admin()?;
        let options = AdminOptions::new()
            .request_timeout(Some(timeout))
            .operation_timeout(Some(timeout));
        let deleted = admin.delete_records(&asked, &options).await;
        drop_elsewhere(admin);
        let deleted = deleted.map_err(refused)?;
        for partition in deleted.elements() {
            partition.error().map_err(refused)?;
        }
        Ok(())
    }

    pub(crate) fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        let config = self.settings().probe();
        config.create().map_err(|error| Error::Client {
            client: "vintage-admin".into(),
            reason: error.to_string(),
        })
    }
}

/// Drops a client on a thread of its own, because destroying it joins librdkafka's threads and must
/// not block an async runtime.
pub(crate) fn drop_elsewhere(client: impl Send + 'static) {
    std::thread::spawn(move || drop(client));
}
