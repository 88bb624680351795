use std::collections::BTreeMap;

use serde::Deserialize;
use vintage_control::Topics;

use crate::error::{Error, Result};

/// Specification of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name of the topic.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Replication factor.
    pub replication: i32,
    /// Topic settings of the broker, by Kafka's names.
    pub config: BTreeMap<String, String>,
}

/// Table of topics and sizes, read from `infra/kafka/topics.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicTable {
    sizes: Sizes,
    topics: Kinds,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_field_names,
    reason = "keys of topics.toml say their unit"
)]
struct Sizes {
    max_message_bytes: usize,
    headroom_bytes: usize,
    part_limit_bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kinds {
    rollouts: Kind,
    policies: Kind,
    grants: Kind,
    producers: Kind,
    steps: Kind,
    rejects: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Kind {
    partitions: Option<i32>,
    #[serde(flatten)]
    config: BTreeMap<String, String>,
}

impl TopicTable {
    /// Returns the table compiled into this program.
    ///
    /// # Panics
    /// Not in a build whose tests pass: a test parses the compiled table.
    pub fn builtin() -> Self {
        Self::parse(include_str!("../../kafka/topics.toml"))
            .expect("topics.toml of the build is checked by a test")
    }

    /// Parses a table and checks that its sizes agree with one another.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |reason: String| Error::TopicTable { reason };
        let table: Self = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        let Sizes {
            max_message_bytes,
            headroom_bytes,
            part_limit_bytes,
        } = table.sizes;
        if headroom_bytes >= max_message_bytes {
            return Err(refuse(format!(
                "headroom_bytes {headroom_bytes} leaves nothing of max_message_bytes \
                 {max_message_bytes}"
            )));
        }
        if part_limit_bytes > max_message_bytes - headroom_bytes {
            return Err(refuse(format!(
                "part_limit_bytes {part_limit_bytes} is over max_message_bytes − headroom_bytes"
            )));
        }
        if i32::try_from(max_message_bytes).is_err() {
            return Err(refuse(format!(
                "max_message_bytes {max_message_bytes} is over 2 GiB"
            )));
        }
        Ok(table)
    }

    /// Returns the specifications of a run's topics, rollouts first. `partitions` applies to
    /// topics for which the table gives no number, which is rollouts; the others have one partition
    /// each.
    pub fn specs(&self, topics: &Topics, partitions: i32, replication: i32) -> Vec<TopicSpec> {
        let kinds = &self.topics;
        [
            (topics.rollouts(), &kinds.rollouts),
            (topics.policies(), &kinds.policies),
            (topics.grants(), &kinds.grants),
            (topics.producers(), &kinds.producers),
            (topics.steps(), &kinds.steps),
            (topics.rejects(), &kinds.rejects),
        ]
        .into_iter()
        .map(|(name, kind)| {
            let mut config = kind.config.clone();
            config.insert(
                "max.message.bytes".into(),
                self.max_message_bytes().to_string(),
            );
            if replication >= 3 {
                // With `acks=all`, a record survives the loss of any one node.
                config.insert("min.insync.replicas".into(), "2".into());
            }
            let partitions = kind.partitions.unwrap_or(partitions);
            TopicSpec {
                name,
                partitions,
                replication,
                config,
            }
        })
        .collect()
    }

    /// Largest record batch that a topic accepts, in bytes as sent.
    pub fn max_message_bytes(&self) -> usize {
        self.sizes.max_message_bytes
    }

    /// Payload size in bytes above which a group is split by rows.
    pub fn part_limit_bytes(&self) -> usize {
        self.sizes.part_limit_bytes
    }

    /// Payload size in bytes above which the producer refuses a row.
    pub fn row_limit_bytes(&self) -> usize {
        self.sizes.max_message_bytes - self.sizes.headroom_bytes
    }

    /// Most bytes that a consumer requests in one fetch: eight of the largest batches, at most 256
    /// MiB and at least one batch.
    pub(crate) fn fetch_max_bytes(&self) -> usize {
        (8 * self.sizes.max_message_bytes)
            .min(256 << 20)
            .max(self.sizes.max_message_bytes)
    }
}

#[cfg(test)]
mod tests {
    use vintage_control::Topics;

    use super::TopicTable;

    #[test]
    fn the_builtin_table_is_whole() {
        let table = TopicTable::builtin();
        let topics = Topics {
            namespace: "vintage".parse().unwrap(),
            run: "r1".parse().unwrap(),
        };
        let specs = table.specs(&topics, 4, 1);
        let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, topics.all());
        assert_eq!(
            specs.iter().map(|spec| spec.partitions).collect::<Vec<_>>(),
            [4, 1, 1, 1, 1, 1]
        );
        assert_eq!(specs[1].config["cleanup.policy"], "compact");
        // Records of grants and producers are complete, and only the newest of a producer counts.
        for spec in &specs[2..4] {
            assert_eq!(spec.config["cleanup.policy"], "compact,delete");
            assert_eq!(spec.config["retention.ms"], specs[4].config["retention.ms"]);
        }
        for spec in &specs {
            let limit = spec.config["max.message.bytes"].parse::<usize>().unwrap();
            assert_eq!(limit, table.max_message_bytes());
        }
        assert_eq!(table.part_limit_bytes(), 768 << 10);
        assert_eq!(
            table.row_limit_bytes(),
            table.max_message_bytes() - (64 << 10)
        );
    }

    #[test]
    fn three_copies_outlive_one_node() {
        let topics = Topics {
            namespace: "vintage".parse().unwrap(),
            run: "r1".parse().unwrap(),
        };
        for spec in TopicTable::builtin().specs(&topics, 1, 3) {
            assert_eq!(spec.config["min.insync.replicas"], "2");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let text = include_str!("../../kafka/topics.toml");
        for (from, to) in [
            ("headroom_bytes = 65536", "headroom_bytes = 4194304"),
            ("part_limit_bytes = 786432", "part_limit_bytes = 4194000"),
            ("[topics.rejects]", "[topics.rejected]"),
            ("max_message_bytes", "max_massage_bytes"),
        ] {
            assert!(text.contains(from));
            assert!(TopicTable::parse(&text.replace(from, to)).is_err(), "{to}");
        }
    }
}
