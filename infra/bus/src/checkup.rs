//! Comparison of existing topics, as their broker reports them, with what a run needs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier},
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::MetadataBroker,
};

use crate::{
    admin::drop_elsewhere,
    bus::Bus,
    concern::{CHECKED_SETTINGS, Concern, Severity, concerns},
    error::{Error, Result, code_of, is_connectivity, is_denial},
    settings::{FAILOVER, PROPAGATION_LOOK},
    topics::TopicSpec,
};

/// Time after which a topic without any reported setting counts as one that this user may not
/// describe. Every topic has settings, but rdkafka 0.39 drops the error of a single topic, and a
/// new topic may have none for a moment.
const DESCRIBE_PATIENCE: Duration = Duration::from_secs(3);

/// State of a topic as its broker reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkup {
    /// Name of the topic.
    pub topic: String,
    /// Number of partitions.
    pub partitions: usize,
    /// Settings that decide whether records are kept, changed or refused, with their values; empty
    /// if they could not be read and on the embedded broker.
    pub settings: Vec<(&'static str, String)>,
    /// Differences from the specification, most severe first.
    pub concerns: Vec<Concern>,
    /// Reason for which the settings could not be read, with advice; `None` if they were read.
    pub unread: Option<String>,
}

/// Answer of a broker to a request for a topic's settings.
enum Described {
    Settings(BTreeMap<String, String>),
    Unread(String),
}

impl Bus {
    /// Compares an existing topic with its specification.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`]; [`Error::Unreachable`]. Settings that may not be read are reported
    /// in [`Checkup::unread`] and cause no error.
    pub async fn check_up(&self, spec: &TopicSpec) -> Result<Checkup> {
        let replicas = self.replicas(&spec.name).await?;
        let mut checkup = Checkup {
            topic: spec.name.clone(),
            partitions: replicas.len(),
            settings: Vec::new(),
            concerns: Vec::new(),
            unread: None,
        };
        if self.is_embedded() {
            return Ok(checkup); // the embedded broker's topics have no settings
        }
        let copies = replicas.iter().map(|of| of.brokers.len()).min();
        match self.describe(&spec.name).await? {
            Described::Unread(why) => checkup.unread = Some(why),
            Described::Settings(found) => {
                let checked = CHECKED_SETTINGS.iter();
                checkup.settings = checked
                    .filter_map(|name| Some((*name, found.get(*name)?.clone())))
                    .collect();
                checkup.concerns = concerns(spec, &found, copies.unwrap_or(0), self.bootstrap());
                checkup
                    .concerns
                    .sort_by_key(|concern| std::cmp::Reverse(concern.weight));
            }
        }
        Ok(checkup)
    }

    /// Returns an error for a topic on which a run cannot work, and logs a warning for one on which
    /// records may be lost.
    pub(crate) async fn check_topic(&self, spec: &TopicSpec, partitions: usize) -> Result<()> {
        if partitions < spec.partitions as usize {
            return Err(self.too_few(spec, partitions));
        }
        if partitions > spec.partitions as usize {
            tracing::info!(
                topic = spec.name,
                partitions,
                expected = spec.partitions,
                "the topic has grown: all of its partitions are read"
            );
        }
        if self.is_embedded() {
            return Ok(());
        }
        let checkup = self.check_up(spec).await?;
        if let Some(why) = &checkup.unread {
            tracing::warn!(
                topic = spec.name,
                "not checked whether it keeps every record: {why}"
            );
        }
        for concern in checkup.concerns {
            match concern.weight {
                Severity::Refused => {
                    let Concern {
                        topic,
                        setting,
                        found,
                        expected,
                        because,
                        command,
                        ..
                    } = concern;
                    return Err(Error::TopicDiffers {
                        topic,
                        property: setting,
                        found,
                        expected,
                        hint: format!("{because}; mend it with: {command}"),
                    });
                }
                Severity::Warned => tracing::warn!("{concern}"),
                Severity::Noted => tracing::info!("{concern}"),
            }
        }
        Ok(())
    }

    fn too_few(&self, spec: &TopicSpec, partitions: usize) -> Error {
        let (name, expected, bootstrap) = (&spec.name, spec.partitions, self.bootstrap());
        Error::TopicDiffers {
            topic: name.clone(),
            property: "partitions".into(),
            found: partitions.to_string(),
            expected: expected.to_string(),
            hint: format!(
                "a topic never shrinks, so this may be another one; set topics.partitions to what \
                 it has, use another run name, or let it grow with: kafka-topics.sh \
                 --bootstrap-server {bootstrap} --alter --topic {name} --partitions {expected}"
            ),
        }
    }

    /// Reads a topic's settings. On a cluster of three nodes, the node asked may learn of a new
    /// topic later than the one that reported it, so the request is repeated.
    async fn describe(&self, topic: &str) -> Result<Described> {
        let action = format!("reading the settings of topic {topic}");
        let begun = Instant::now();
        loop {
            let asked = self
                .describe_once(&[ResourceSpecifier::Topic(topic)])
                .await?;
            let problem = match asked {
                Ok(resources) => {
                    let first = resources.into_iter().next();
                    match first.map(|found| found.map(settings)) {
                        Some(Ok(settings)) if !settings.is_empty() => {
                            return Ok(Described::Settings(settings));
                        }
                        Some(Err(code)) if is_denial(code) => return Ok(denied(topic, code)),
                        Some(Err(code)) if is_unsupported(code) => return Ok(unsupported(code)),
                        Some(Err(code)) => code.to_string(),
                        _ if begun.elapsed() > DESCRIBE_PATIENCE => {
                            let code = RDKafkaErrorCode::TopicAuthorizationFailed;
                            return Ok(denied(topic, code));
                        }
                        _ => "the broker reported none".to_owned(),
                    }
                }
                Err(error) => match code_of(&error) {
                    Some(code) if is_denial(code) => return Ok(denied(topic, code)),
                    Some(code) if is_unsupported(code) => return Ok(unsupported(code)),
                    // The node asked may have failed.
                    Some(code) if is_connectivity(code) && begun.elapsed() < FAILOVER => {
                        code.to_string()
                    }
                    _ => return Err(self.refused(&action, &error, begun.elapsed())),
                },
            };
            if begun.elapsed() > FAILOVER {
                return Ok(Described::Unread(format!(
                    "{action} gave nothing within {} s: {problem}",
                    FAILOVER.as_secs()
                )));
            }
            tokio::time::sleep(PROPAGATION_LOOK).await;
        }
    }

    async fn describe_once(
        &self,
        what: &[ResourceSpecifier<'_>],
    ) -> Result<Result<Vec<Result<ConfigResource, RDKafkaErrorCode>>, KafkaError>> {
        let admin = self.admin()?;
        let options = AdminOptions::new().request_timeout(Some(self.timeout()));
        let described = admin.describe_configs(what, &options).await;
        drop_elsewhere(admin);
        Ok(described)
    }

    /// Returns one line of text for every broker-wide limit that is too small for records of
    /// `largest` bytes or stops compaction, and for every node whose limits cannot be read. Empty
    /// on the embedded broker.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no broker answers.
    pub async fn node_limits(&self, largest: usize) -> Result<Vec<String>> {
        if self.is_embedded() {
            return Ok(Vec::new());
        }
        let timeout = self.timeout();
        let metadata = self
            .probe(move |probe| probe.fetch_metadata(None, timeout))
            .await?
            .map_err(|error| self.refused("asking for the brokers", &error, timeout))?;
        let nodes: Vec<_> = metadata.brokers().iter().map(MetadataBroker::id).collect();
        let mut limits = Vec::new();
        for node in nodes {
            let asked = self
                .describe_once(&[ResourceSpecifier::Broker(node)])
                .await?;
            let resources = match asked {
                Ok(resources) => resources,
                Err(error) => {
                    limits.push(format!(
                        "the limits of node {node} could not be read: {error}"
                    ));
                    continue;
                }
            };
            for resource in resources {
                let resource = match resource {
                    Ok(resource) => resource,
                    Err(code) => {
                        limits.push(format!(
                            "the limits of node {node} may not be read ({code}); grant \
                             DescribeConfigs on the cluster to see them"
                        ));
                        continue;
                    }
                };
                debug_assert!(resource.specifier == OwnedResourceSpecifier::Broker(node));
                limits.extend(too_small(node, &settings(resource), largest));
            }
        }
        Ok(limits)
    }
}

/// Describes the settings of a node that reject a record of `largest` bytes or that disable the log
/// cleaner.
fn too_small(node: i32, found: &BTreeMap<String, String>, largest: usize) -> Vec<String> {
    let number = |name: &str| found.get(name).and_then(|value| value.parse::<u64>().ok());
    let mut limits = Vec::new();
    // A request also holds the names of client, topic and transaction.
    let needed = largest as u64 + (64 << 10);
    if let Some(bytes) = number("socket.request.max.bytes").filter(|bytes| *bytes < needed) {
        limits.push(format!(
            "node {node} has socket.request.max.bytes={bytes}: it breaks off when a record of up to \
             {largest} bytes is sent; set it to at least {needed} in its server.properties, and \
             start it again"
        ));
    }
    if found
        .get("log.cleaner.enable")
        .is_some_and(|on| on == "false")
    {
        limits.push(format!(
            "node {node} has log.cleaner.enable=false: announcements are never compacted, so that \
             who starts reads all there ever were; set it to true in its server.properties, and \
             start it again"
        ));
    }
    limits
}

fn settings(resource: ConfigResource) -> BTreeMap<String, String> {
    let entries = resource.entries.into_iter();
    let entries = entries.filter_map(|entry| Some((entry.name, entry.value?)));
    entries.collect()
}

fn denied(topic: &str, code: RDKafkaErrorCode) -> Described {
    Described::Unread(format!(
        "this user may not read its settings ({code}); grant it DescribeConfigs on topic {topic}, or \
         see to them yourself: infra/kafka/README.md lists the rights, infra/kafka/topics.toml the \
         settings"
    ))
}

fn unsupported(code: RDKafkaErrorCode) -> Described {
    Described::Unread(format!(
        "the broker does not report settings ({code}); see to them yourself: \
         infra/kafka/topics.toml \
         lists them"
    ))
}

fn is_unsupported(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::UnsupportedVersion | C::UnsupportedFeature | C::NotImplemented | C::InvalidRequest
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::too_small;

    #[test]
    fn a_node_that_takes_no_large_request_is_named() {
        let of = |name: &str, value: &str| {
            let found = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            too_small(2, &found, 4 << 20)
        };
        assert_eq!(of("socket.request.max.bytes", "104857600"), [""; 0]);
        let limits = of("socket.request.max.bytes", "1048576");
        assert!(
            limits[0].contains("node 2") && limits[0].contains("4259840"),
            "{limits:?}"
        );
        assert_eq!(of("log.cleaner.enable", "true"), [""; 0]);
        assert_eq!(of("log.cleaner.enable", "false").len(), 1);
    }
}
