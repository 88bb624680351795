//! Topics created, checked, emptied and deleted.

use std::time::{Duration, Instant};

use rdkafka::{
    Offset as Native, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
};
use vintage_control::{Offset, Partition};

use crate::{
    Bus, Error, Result, TopicSpec,
    ask::{FAILOVER, PROPAGATION_LOOK},
    error::{code_of, is_connectivity, is_denial},
};

/// How soon brokers that are missing for a topic's copies are asked for again.
const RETRY: Duration = Duration::from_millis(250);
/// Topic setting: how long records are kept, milliseconds; −1 = for ever.
const RETENTION: &str = "retention.ms";

impl Bus {
    /// Creates the topics that are missing and checks those that are there: the number of
    /// partitions must be the same and records as large must be taken.
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
                // A broker that missed its heartbeats, on a busy machine, holds nothing until
                // the controllers have heard of it again.
                error if error.lacks_brokers() => self.timeout(),
                // The controller that was asked fell, or not every node knows the new topic yet.
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
                // Another process was faster: its topic is checked below.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) if is_denial(code) => {
                    return Err(self.denied(format!("creating topic {topic}"), code));
                }
                Err((topic, code)) => {
                    return Err(Error::Request {
                        action: format!("creating topic {topic}"),
                        bootstrap: self.bootstrap().to_owned(),
                        detail: code.to_string(),
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

    /// Deletes a topic and everything in it.
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
            // An attempt whose answer was lost deleted it.
            Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) => Ok(()),
            Some(Err((_, code))) => Err(Error::Request {
                action,
                bootstrap: self.bootstrap().to_owned(),
                detail: code.to_string(),
                retryable: is_connectivity(code),
            }),
            _ => Ok(()),
        }
    }

    /// Deletes the records of a topic before these offsets, as retention does: what the archive
    /// holds need not stay in the log.
    ///
    /// # Errors
    /// [`Error::Request`] naming a partition whose records could not be deleted.
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

    async fn check_topic(&self, topic: &TopicSpec, partitions: usize) -> Result<()> {
        if partitions != topic.partitions as usize {
            return Err(Error::TopicDiffers {
                topic: topic.name.clone(),
                property: "partitions".into(),
                found: partitions.to_string(),
                expected: topic.partitions.to_string(),
                hint: "set the number of partitions to what it has, or use another run name".into(),
            });
        }
        if self.is_embedded() {
            return Ok(()); // its topics have no settings
        }
        self.check_keeps(topic).await?;
        let key = "max.message.bytes";
        let Some(expected) = topic.config.get(key) else {
            return Ok(());
        };
        let found = self.setting_of(&topic.name, key).await?;
        let takes = |value: &str| value.parse::<u64>().unwrap_or(0);
        if takes(&found) < takes(expected) {
            return Err(Error::TopicDiffers {
                topic: topic.name.clone(),
                property: key.into(),
                found,
                expected: format!("at least {expected}"),
                hint: format!("raise it: kafka-configs --alter --add-config {key}={expected}"),
            });
        }
        Ok(())
    }

    /// A topic that is to keep every record as it is must do so.
    async fn check_keeps(&self, topic: &TopicSpec) -> Result<()> {
        if topic.config.get(RETENTION).is_none_or(|time| time != "-1") {
            return Ok(());
        }
        for key in [RETENTION, "cleanup.policy", "message.timestamp.type"] {
            let Some(expected) = topic.config.get(key) else {
                continue;
            };
            let found = self.setting_of(&topic.name, key).await?;
            if found != *expected {
                return Err(Error::TopicDiffers {
                    topic: topic.name.clone(),
                    property: key.into(),
                    found,
                    expected: expected.clone(),
                    hint: "records would be lost or changed there; name a topic that does not \
                           exist yet"
                        .into(),
                });
            }
        }
        Ok(())
    }

    /// A setting of a topic. The node that is asked may hear of a new topic later than the one that
    /// told us of it: with three nodes, a role that starts beside another meets this.
    async fn setting_of(&self, topic: &str, key: &str) -> Result<String> {
        let timeout = self.timeout();
        let action = format!("reading the settings of topic {topic}");
        let begun = Instant::now();
        loop {
            let admin = self.admin()?;
            let options = AdminOptions::new().request_timeout(Some(timeout));
            let described = admin
                .describe_configs([&ResourceSpecifier::Topic(topic)], &options)
                .await;
            drop_elsewhere(admin);
            let resources = match described {
                Ok(resources) => resources,
                // The node that was asked may have fallen.
                Err(error) if begun.elapsed() > FAILOVER || !is_passing(&error) => {
                    return Err(self.refused(&action, &error, begun.elapsed()));
                }
                Err(_) => Vec::new(),
            };
            for resource in resources {
                match resource {
                    Err(code) if is_denial(code) => return Err(self.denied(action, code)),
                    // Not known there yet.
                    Err(_) => {}
                    Ok(resource) => {
                        if let Some(found) = resource.get(key).and_then(|entry| entry.value.clone())
                        {
                            return Ok(found);
                        }
                    }
                }
            }
            if begun.elapsed() > FAILOVER {
                return Err(Error::Request {
                    action,
                    bootstrap: self.bootstrap().to_owned(),
                    detail: format!("{key} was not returned"),
                    retryable: false,
                });
            }
            tokio::time::sleep(PROPAGATION_LOOK).await;
        }
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        let config = self.settings().probe();
        config.create().map_err(|error| Error::Client {
            client: "vintage-admin".into(),
            detail: error.to_string(),
        })
    }
}

fn is_passing(error: &KafkaError) -> bool {
    code_of(error).is_some_and(is_connectivity)
}

/// Destroying a client joins its threads: not on a runtime's thread.
fn drop_elsewhere(client: impl Send + 'static) {
    std::thread::spawn(move || drop(client));
}
