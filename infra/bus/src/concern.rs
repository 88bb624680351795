//! Rules that compare a topic's settings, as reported by its broker, with those a run needs. They
//! find settings under which records are lost, changed or refused. No IO happens here; `checkup.rs`
//! asks the broker.

use std::{collections::BTreeMap, fmt};

use crate::topics::TopicSpec;

/// Severity of a [`Concern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Information only; no record is at risk.
    Noted,
    /// Records may be lost or changed later, for example by retention or after a node failure.
    Warned,
    /// Records are lost or refused in normal operation, so nothing starts on the topic.
    Refused,
}

/// Topic setting that differs from what a run needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern {
    /// Severity, which decides whether a role refuses to start, warns or logs.
    pub weight: Severity,
    /// Name of the topic.
    pub topic: String,
    /// Kafka's name of the setting, such as `retention.ms`.
    pub setting: String,
    /// Value that the broker reports.
    pub found: String,
    /// Value that a run needs, possibly with the prefix `at least `.
    pub expected: String,
    /// Consequence of the value found.
    pub because: &'static str,
    /// Shell command (`kafka-configs.sh …`) that sets the needed value.
    pub command: String,
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            setting,
            found,
            expected,
            because,
            command,
            ..
        } = self;
        write!(
            f,
            "topic {topic} has {setting}={found}, not {expected}: {because}; mend it with: {command}"
        )
    }
}

/// Topic settings that decide whether records are kept, changed or refused, in display order.
pub(crate) const CHECKED_SETTINGS: [&str; 11] = [
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
    "max.message.bytes",
    "segment.bytes",
    "min.insync.replicas",
    "message.timestamp.type",
    "message.timestamp.before.max.ms",
    "unclean.leader.election.enable",
    "compression.type",
    "message.format.version",
];

const POLICY: &str = "cleanup.policy";
const RETENTION: &str = "retention.ms";
const SIZE: &str = "max.message.bytes";
const TIMES: &str = "message.timestamp.type";

/// Compares a topic's settings with its specification. Settings that the broker did not report are
/// skipped. `copies` is the smallest replica count of any partition; 0 if unknown.
pub(crate) fn concerns(
    spec: &TopicSpec,
    found: &BTreeMap<String, String>,
    copies: usize,
    bootstrap: &str,
) -> Vec<Concern> {
    let rules = Rules {
        spec,
        found,
        bootstrap,
    };
    let mut concerns: Vec<_> = rules.cleanup().into_iter().collect();
    concerns.extend(rules.retention());
    concerns.extend(rules.sizes());
    concerns.extend(rules.copies(copies));
    concerns.extend(rules.times());
    concerns.extend(rules.encoding());
    concerns
}

struct Rules<'a> {
    spec: &'a TopicSpec,
    found: &'a BTreeMap<String, String>,
    bootstrap: &'a str,
}

impl Rules<'_> {
    fn found(&self, setting: &str) -> Option<&str> {
        self.found.get(setting).map(String::as_str)
    }

    fn wanted(&self, setting: &str) -> Option<&str> {
        self.spec.config.get(setting).map(String::as_str)
    }

    fn number(&self, setting: &str) -> Option<i64> {
        self.found(setting)?.parse().ok()
    }

    fn wanted_number(&self, setting: &str) -> Option<i64> {
        self.wanted(setting)?.parse().ok()
    }

    /// Returns true for a topic whose records are trained on (rollouts), rather than copies of
    /// records in the object store. Only its specification sets `message.timestamp.type`.
    fn is_truth(&self) -> bool {
        self.wanted(TIMES).is_some()
    }

    /// Returns true if the specification keeps every record for ever: `retention.ms` is -1 and the
    /// topic is not compacted.
    fn keeps_all(&self) -> bool {
        self.wanted(RETENTION) == Some("-1") && self.wanted(POLICY) != Some("compact")
    }

    fn has_policy(&self, policy: &str) -> bool {
        let found = self.found(POLICY).unwrap_or_default();
        found.split(',').any(|part| part.trim() == policy)
    }

    fn say(
        &self,
        weight: Severity,
        setting: &str,
        expected: impl Into<String>,
        because: &'static str,
    ) -> Option<Concern> {
        let expected = expected.into();
        let value = expected.trim_start_matches("at least ").to_owned();
        let topic = &self.spec.name;
        let bootstrap = self.bootstrap;
        Some(Concern {
            weight,
            topic: topic.clone(),
            setting: setting.to_owned(),
            found: self.found(setting)?.to_owned(),
            expected,
            because,
            command: format!(
                "kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics \
                 --entity-name {topic} --add-config {setting}={value}"
            ),
        })
    }

    fn cleanup(&self) -> Option<Concern> {
        match self.wanted(POLICY)? {
            "delete" if self.has_policy("compact") => {
                let (weight, because) = if self.is_truth() {
                    (
                        Severity::Refused,
                        "compaction deletes all but the newest record of a key, and the parts of a \
                         group have one key",
                    )
                } else {
                    (
                        Severity::Warned,
                        "compaction deletes all but the newest record of a learner",
                    )
                };
                self.say(weight, POLICY, "delete", because)
            }
            "compact" if self.has_policy("delete") && self.expires() => self.say(
                Severity::Refused,
                POLICY,
                "compact",
                "the newest announcement expires, and who starts after that waits for ever",
            ),
            _ => None,
        }
    }

    /// Returns true if records are deleted by age or by partition size.
    fn expires(&self) -> bool {
        let bounded = |setting| self.number(setting).is_none_or(|bound| bound >= 0);
        bounded(RETENTION)
            || self
                .number("retention.bytes")
                .is_some_and(|bytes| bytes >= 0)
    }

    fn retention(&self) -> Vec<Concern> {
        if self.wanted(POLICY) == Some("compact") {
            return Vec::new(); // `cleanup` checks compacted topics
        }
        let mut concerns = Vec::new();
        let weight = if self.keeps_all() {
            Severity::Refused
        } else {
            Severity::Warned
        };
        if let (Some(found), Some(wanted)) = (self.number(RETENTION), self.wanted_number(RETENTION))
            && found >= 0
            && (wanted < 0 || found < wanted)
        {
            concerns.extend(self.say(
                weight,
                RETENTION,
                wanted.to_string(),
                "records are deleted when they are older: an archive or a learner that is away for \
                 longer loses them",
            ));
        }
        if self.wanted(RETENTION).is_some()
            && self.number("retention.bytes").is_some_and(|b| b >= 0)
        {
            concerns.extend(self.say(
                weight,
                "retention.bytes",
                "-1",
                "the oldest records are deleted when a partition holds more, whether or not anybody \
                 has read them",
            ));
        }
        concerns
    }

    fn sizes(&self) -> Vec<Concern> {
        let Some(wanted) = self.wanted_number(SIZE) else {
            return Vec::new();
        };
        let small = |setting: &'static str, because| {
            let found = self.number(setting)?;
            let expected = format!("at least {wanted}");
            (found < wanted).then(|| self.say(Severity::Refused, setting, expected, because))?
        };
        let concerns = [
            small(SIZE, "larger groups cannot be published"),
            small(
                "segment.bytes",
                "a record batch over the size of a segment cannot be published",
            ),
        ];
        concerns.into_iter().flatten().collect()
    }

    fn copies(&self, copies: usize) -> Vec<Concern> {
        const IN_SYNC: &str = "min.insync.replicas";
        const UNCLEAN: &str = "unclean.leader.election.enable";
        let mut concerns = Vec::new();
        let least = self.number(IN_SYNC).unwrap_or(1);
        if copies > 0 && least > copies as i64 {
            concerns.extend(self.say(
                Severity::Refused,
                IN_SYNC,
                copies.saturating_sub(1).max(1).to_string(),
                "it has fewer copies than must hold a record, so that none can be published",
            ));
        } else if copies >= 3 && least < 2 {
            concerns.extend(self.say(
                Severity::Warned,
                IN_SYNC,
                "2",
                "a record may be acknowledged that one node alone holds, and goes with it",
            ));
        }
        if copies > 1 && self.found(UNCLEAN) == Some("true") {
            concerns.extend(self.say(
                Severity::Warned,
                UNCLEAN,
                "false",
                "a node that lags may lead after a failure, and acknowledged records are gone",
            ));
        }
        concerns
    }

    fn times(&self) -> Vec<Concern> {
        const BEFORE: &str = "message.timestamp.before.max.ms";
        let mut concerns = Vec::new();
        let weight = if self.keeps_all() {
            Severity::Refused
        } else {
            Severity::Warned
        };
        if let (Some(wanted), Some(found)) = (self.wanted(TIMES), self.found(TIMES))
            && found != wanted
        {
            concerns.extend(self.say(
                weight,
                TIMES,
                wanted,
                "the broker replaces the time at which a record was produced",
            ));
        }
        if self.keeps_all() && self.number(BEFORE).is_some_and(|most| most < i64::MAX) {
            concerns.extend(self.say(
                Severity::Refused,
                BEFORE,
                i64::MAX.to_string(),
                "the broker refuses records that were produced longer ago",
            ));
        }
        concerns
    }

    fn encoding(&self) -> Vec<Concern> {
        const CODEC: &str = "compression.type";
        const FORMAT: &str = "message.format.version";
        let mut concerns = Vec::new();
        if let (Some(wanted), Some(found)) = (self.wanted(CODEC), self.found(CODEC))
            && found != wanted
        {
            concerns.extend(self.say(
                Severity::Noted,
                CODEC,
                wanted,
                "the broker compresses anew what came compressed: nothing is lost, but time",
            ));
        }
        let old = |version: &str| {
            let mut numbers = version
                .split(['.', '-'])
                .map(|part| part.parse::<u32>().ok());
            numbers.next().flatten() == Some(0)
                && numbers.next().flatten().is_some_and(|minor| minor < 11)
        };
        if self.found(FORMAT).is_some_and(old) {
            concerns.extend(self.say(
                Severity::Refused,
                FORMAT,
                "0.11.0",
                "records of that format have no headers",
            ));
        }
        concerns
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vintage_control::Topics;

    use super::{Concern, Severity, concerns};
    use crate::topics::{TopicSpec, TopicTable};

    fn specs() -> Vec<TopicSpec> {
        let topics = Topics {
            namespace: "vintage".parse().unwrap(),
            run: "r1".parse().unwrap(),
        };
        TopicTable::builtin().specs(&topics, 4, 1)
    }

    /// Concerns about a topic whose settings are those specified, except for `changed`.
    fn of(spec: &TopicSpec, changed: &[(&str, &str)], copies: usize) -> Vec<Concern> {
        let mut found = spec.config.clone();
        found.extend([
            ("retention.bytes".to_owned(), "-1".to_owned()),
            ("segment.bytes".to_owned(), "1073741824".to_owned()),
            ("min.insync.replicas".to_owned(), "1".to_owned()),
        ]);
        let changed = changed.iter();
        found.extend(changed.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        concerns(spec, &found, copies, "127.0.0.1:9092")
    }

    fn found(spec: &TopicSpec, changed: &[(&str, &str)], copies: usize) -> Vec<(Severity, String)> {
        let of = of(spec, changed, copies).into_iter();
        of.map(|concern| (concern.weight, concern.setting))
            .collect()
    }

    #[test]
    fn a_topic_as_it_was_made_is_of_no_concern() {
        for spec in specs() {
            assert_eq!(of(&spec, &[], 1), []);
            assert_eq!(
                concerns(&spec, &BTreeMap::new(), 1, "b:1"),
                [],
                "nothing reported"
            );
        }
    }

    #[test]
    fn what_loses_or_refuses_records_is_refused() {
        use Severity::Refused;
        let specs = specs();
        let [rollouts, policies, ..] = &specs[..] else {
            unreachable!()
        };
        for policy in ["compact", "compact,delete", "delete, compact"] {
            let changed = [("cleanup.policy", policy)];
            let expected = [(Refused, "cleanup.policy".to_owned())];
            assert_eq!(found(rollouts, &changed, 1), expected, "{policy}");
        }
        for (setting, value) in [
            ("max.message.bytes", "1048588"),
            ("segment.bytes", "1048576"),
            ("min.insync.replicas", "2"),
            ("message.format.version", "0.10.2-IV0"),
        ] {
            let expected = [(Refused, setting.to_owned())];
            assert_eq!(
                found(rollouts, &[(setting, value)], 1),
                expected,
                "{setting}"
            );
        }
        // The policies topic may keep announcements by compaction or by infinite retention, but
        // they must not expire.
        let expire = [("cleanup.policy", "delete"), ("retention.ms", "604800000")];
        let expected = [(Refused, "cleanup.policy".to_owned())];
        assert_eq!(found(policies, &expire, 1), expected);
        let both = [
            ("cleanup.policy", "compact,delete"),
            ("retention.ms", "1000"),
        ];
        assert_eq!(found(policies, &both, 1), expected);
        let for_ever = [("cleanup.policy", "delete"), ("retention.ms", "-1")];
        assert_eq!(found(policies, &for_ever, 1), []);
    }

    #[test]
    fn what_may_lose_records_is_warned_of() {
        use Severity::{Noted, Warned};
        let specs = specs();
        let [rollouts, _, .., steps, rejects] = &specs[..] else {
            unreachable!()
        };
        for (weight, setting, value, copies) in [
            (Warned, "retention.ms", "3600000", 1),
            (Warned, "retention.bytes", "1000000", 1),
            (Warned, "message.timestamp.type", "LogAppendTime", 1),
            (Warned, "min.insync.replicas", "1", 3),
            (Warned, "unclean.leader.election.enable", "true", 2),
            (Noted, "compression.type", "gzip", 1),
        ] {
            let expected = [(weight, setting.to_owned())];
            assert_eq!(
                found(rollouts, &[(setting, value)], copies),
                expected,
                "{setting}"
            );
        }
        assert_eq!(found(rollouts, &[("retention.ms", "-1")], 1), []);
        for mirror in [steps, rejects] {
            let changed = [("cleanup.policy", "compact")];
            assert_eq!(
                found(mirror, &changed, 1),
                [(Warned, "cleanup.policy".to_owned())]
            );
        }
    }

    /// A replay's target topic has infinite retention and holds old timestamps: any setting that
    /// deletes or rewrites its records is refused.
    #[test]
    fn a_topic_for_ever_keeps_everything_as_it_is() {
        let mut spec = specs().remove(0);
        spec.config.insert("retention.ms".into(), "-1".into());
        for (setting, value) in [
            ("retention.ms", "604800000"),
            ("retention.bytes", "1000000"),
            ("message.timestamp.type", "LogAppendTime"),
            ("message.timestamp.before.max.ms", "86400000"),
        ] {
            let expected = [(Severity::Refused, setting.to_owned())];
            assert_eq!(found(&spec, &[(setting, value)], 1), expected, "{setting}");
        }
    }

    #[test]
    fn a_concern_names_the_command_that_mends_it() {
        let rollouts = specs().remove(0);
        let concern = of(&rollouts, &[("max.message.bytes", "1048588")], 1).remove(0);
        assert_eq!(
            concern.to_string(),
            "topic vintage.r1.rollouts.v1 has max.message.bytes=1048588, not at least 4194304: \
             larger groups cannot be published; mend it with: kafka-configs.sh --bootstrap-server \
             127.0.0.1:9092 --alter --entity-type topics --entity-name vintage.r1.rollouts.v1 \
             --add-config max.message.bytes=4194304"
        );
    }
}
