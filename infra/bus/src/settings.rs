//! Settings of librdkafka's clients, with the reasons for their values.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{ClientConfig, error::KafkaError};

use crate::{
    error::{Error, Result},
    topics::TopicTable,
};

pub(crate) const PROPAGATION_LOOK: Duration = Duration::from_millis(50);
/// Longest wait for a new leader. After a node fails, its partitions get one within the node's
/// session timeout (9 s) and an election.
pub(crate) const FAILOVER: Duration = Duration::from_secs(30);

/// Client settings that cannot be overridden, because the delivery guarantees depend on them.
const FIXED: [&str; 15] = [
    "bootstrap.servers",
    "client.id",
    "group.id",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "allow.auto.create.topics",
    "check.crcs",
    "enable.partition.eof",
    "isolation.level",
    "log.queue",
];

/// Setting that selects how clients obtain OAuth tokens.
const METHOD: &str = "sasl.oauthbearer.method";

/// Most bytes that one producer may have in flight; further calls wait in `publish`.
pub(crate) const IN_FLIGHT_BYTES: usize = 32 << 20;

/// Returns true if a client setting of librdkafka holds a secret.
pub fn is_secret_option(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let holds = ["password", "passphrase", "secret"];
    holds.iter().any(|part| name.contains(part)) || name.ends_with("key.pem")
}

/// Settings shared by all clients of one bus. Not `Debug`, because the overrides hold passwords.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) bootstrap: String,
    overrides: BTreeMap<String, String>,
    embedded: bool,
    max_message_bytes: usize,
    fetch_max_bytes: usize,
}

impl Settings {
    pub(crate) fn new(
        bootstrap: &str,
        overrides: &BTreeMap<String, String>,
        embedded: bool,
    ) -> Result<Self> {
        for address in bootstrap.split(',') {
            check_address(address.trim())?;
        }
        for (key, value) in overrides {
            if FIXED.contains(&key.as_str()) {
                return Err(Error::FixedSetting { key: key.clone() });
            }
            let refuse = |reason: String| Error::Setting {
                key: key.clone(),
                value: if is_secret_option(key) {
                    "(not shown)".to_owned()
                } else {
                    value.clone()
                },
                reason,
            };
            // Without this method, librdkafka would wait for a token that this program never
            // supplies.
            let fetches = overrides.get(METHOD).is_some_and(|method| method == "oidc");
            let by_token =
                key.starts_with("sasl.mechanism") && value.eq_ignore_ascii_case("OAUTHBEARER");
            if by_token && !fetches {
                return Err(refuse(format!(
                    "tokens are fetched from an endpoint: set {METHOD} = \"oidc\" and \
                     sasl.oauthbearer.token.endpoint.url, .client.id and .client.secret beside it"
                )));
            }
            let mut one = ClientConfig::new();
            one.set(key, value);
            one.create_native_config().map_err(|error| match error {
                // The error's own display would include the value.
                KafkaError::ClientConfig(_, what, _, _) if key.contains("oauthbearer") => {
                    refuse(format!("{what}; install libcurl's headers and build again"))
                }
                KafkaError::ClientConfig(_, what, _, _) => refuse(what),
                other => refuse(other.to_string()),
            })?;
        }
        let table = TopicTable::builtin();
        Ok(Self {
            bootstrap: bootstrap.to_owned(),
            overrides: overrides.clone(),
            embedded,
            max_message_bytes: table.max_message_bytes(),
            fetch_max_bytes: table.fetch_max_bytes(),
        })
    }

    /// Largest record batch in bytes, after overrides (`message.max.bytes`).
    pub(crate) fn max_message_bytes(&self) -> usize {
        let overridden = self
            .overrides
            .get("message.max.bytes")
            .and_then(|v| v.parse().ok());
        overridden.unwrap_or(self.max_message_bytes)
    }

    /// Configuration of the client for metadata requests.
    pub(crate) fn probe(&self) -> ClientConfig {
        let mut config = self.shared("vintage-probe");
        self.apply_overrides(&mut config);
        config
    }

    pub(crate) fn producer(&self, client_id: &str) -> ClientConfig {
        let mut config = self.shared(client_id);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.codec", "lz4")
            // Groups are large, so that batching several gains little.
            .set("linger.ms", "2")
            .set("message.max.bytes", self.max_message_bytes.to_string())
            // The semaphore in `Producer` is the bound; these limits are set so that they never
            // apply.
            .set(
                "queue.buffering.max.kbytes",
                (2 * IN_FLIGHT_BYTES / 1024).to_string(),
            )
            .set("queue.buffering.max.messages", "0");
        self.apply_overrides(&mut config);
        config
    }

    /// Configuration of a producer that appends no later record after one has failed.
    pub(crate) fn gapless_producer(&self, client_id: &str) -> ClientConfig {
        let mut config = self.producer(client_id);
        config
            .set("enable.gapless.guarantee", "true")
            // Expiry in the queue is the one gap that this guarantee leaves open.
            .set("message.timeout.ms", "0");
        config
    }

    pub(crate) fn consumer(&self, client_id: &str, group: &str, max_bytes: usize) -> ClientConfig {
        // Bytes prefetched by librdkafka for each partition, besides the consumer's own buffer.
        let queued = (max_bytes / 8).clamp(64 << 10, 4 << 20);
        let fetch = self.max_message_bytes.min(queued).max(64 << 10);
        let mut config = self.shared(client_id);
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // An invalid position is an error that names it, never a silent jump.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            // End-of-partition events report the reader's position, because a partition's last
            // offset may hold no record.
            .set("enable.partition.eof", "true")
            // Statistics feed the lag gauge and reveal added partitions and transactions that stay
            // open.
            .set("statistics.interval.ms", "2000")
            // By default an added partition is discovered after five minutes.
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("check.crcs", "true")
            .set("message.max.bytes", self.max_message_bytes.to_string())
            // Not a hard limit: the broker sends one larger batch all the same.
            .set("fetch.message.max.bytes", fetch.to_string())
            .set("fetch.max.bytes", self.fetch_max_bytes.to_string())
            .set(
                "receive.message.max.bytes",
                (self.fetch_max_bytes + (1 << 20)).to_string(),
            )
            .set("queued.max.messages.kbytes", (queued / 1024).to_string())
            // The limit in bytes applies; the default of 100000 records would be 5 GB of rollouts.
            .set("queued.min.messages", "1000")
            // The default of 1 s stalls fetching whenever the byte limit was reached.
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "100")
            // A real broker answers as soon as there is data; the mock broker answers only after
            // this wait.
            .set("fetch.wait.max.ms", if self.embedded { "5" } else { "200" });
        self.apply_overrides(&mut config);
        config
    }

    /// Configuration of a consumer group member, to which the brokers assign partitions.
    pub(crate) fn member(&self, client_id: &str, group: &str, max_bytes: usize) -> ClientConfig {
        let mut config = self.consumer(client_id, group, max_bytes);
        // KIP-848 (`group.protocol=consumer`) has neither setting; their counterparts are on the
        // broker.
        if config.get("group.protocol") != Some("consumer") {
            let strategy = "partition.assignment.strategy";
            if config.get(strategy).is_none() {
                config.set(strategy, "cooperative-sticky");
            }
            if config.get("session.timeout.ms").is_none() {
                config.set("session.timeout.ms", "20000");
            }
        }
        config
    }

    fn shared(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", client_id)
            .set("allow.auto.create.topics", "false")
            // Reconnects to a restarted broker within a second instead of ten.
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.connection.setup.timeout.ms", "10000")
            .set("log.connection.close", "false");
        config
    }

    fn apply_overrides(&self, config: &mut ClientConfig) {
        for (key, value) in &self.overrides {
            config.set(key, value);
        }
    }
}

fn check_address(address: &str) -> Result<()> {
    let good = address.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        !bare.is_empty()
            && !bare.contains(char::is_whitespace)
            && !bare.contains('/')
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if good {
        Ok(())
    } else {
        Err(Error::Address {
            address: address.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{METHOD, Settings, is_secret_option};
    use vintage_control::Fault;

    use crate::error::Error;

    fn with(key: &str, value: &str) -> Result<Settings, Error> {
        let overrides = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Settings::new("127.0.0.1:9092", &overrides, false)
    }

    #[test]
    fn addresses_are_checked() {
        let none = BTreeMap::new();
        for good in ["localhost:9092", "a:1,b:2", "[::1]:9092", "a:1, b:2"] {
            assert!(Settings::new(good, &none, false).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost",
            ":9092",
            "a:1,",
            "a:0",
            "a:b",
            "http://a:1",
            "a:70000",
        ] {
            let error = Settings::new(bad, &none, false).err().unwrap();
            assert_eq!(error.fault(), Fault::User, "{bad}: {error}");
        }
    }

    #[test]
    fn overrides_are_checked() {
        assert!(with("security.protocol", "plaintext").is_ok());
        assert!(matches!(
            with("no.such.setting", "1"),
            Err(Error::Setting { .. })
        ));
        assert!(matches!(
            with("linger.ms", "soon"),
            Err(Error::Setting { .. })
        ));
        assert!(matches!(with("acks", "1"), Err(Error::FixedSetting { .. })));
    }

    /// Every setting that librdkafka's CONFIGURATION.md marks as sensitive is recognised as a
    /// secret.
    #[test]
    fn secrets_are_known_and_never_shown() {
        for secret in [
            "sasl.password",
            "ssl.key.password",
            "ssl.key.pem",
            "ssl.keystore.password",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.client.credentials.client.secret",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.private.key.pem",
        ] {
            assert!(is_secret_option(secret), "{secret}");
        }
        for open in [
            "sasl.username",
            "ssl.ca.location",
            "ssl.ca.pem",
            "ssl.key.location",
        ] {
            assert!(!is_secret_option(open), "{open}");
        }
        let Err(error) = with("ssl.keystore.password", "hunter2\0") else {
            panic!("no text of C's")
        };
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains("not shown") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[test]
    fn tokens_that_nobody_would_fetch_are_refused() {
        for key in ["sasl.mechanism", "sasl.mechanisms"] {
            for good in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
                assert!(with(key, good).is_ok(), "{good}");
            }
            let Err(error) = with(key, "OAUTHBEARER") else {
                panic!("it would wait for a token for ever")
            };
            assert_eq!(error.fault(), Fault::User);
            assert!(error.to_string().contains("endpoint.url"), "{error}");
            let both = [(key, "OAUTHBEARER"), (METHOD, "oidc")];
            let both = both.map(|(key, value)| (key.to_owned(), value.to_owned()));
            assert!(Settings::new("127.0.0.1:9", &BTreeMap::from(both), false).is_ok());
        }
    }

    #[test]
    fn overrides_win() {
        let settings = with("linger.ms", "50").unwrap();
        assert_eq!(settings.producer("p").get("linger.ms"), Some("50"));
        let consumer = with("group.protocol", "consumer")
            .unwrap()
            .member("c", "g", 1 << 20);
        assert_eq!(consumer.get("session.timeout.ms"), None);
    }

    /// A client can be made with every buffer size; librdkafka refuses settings that contradict
    /// each other.
    #[test]
    fn every_size_of_buffer_makes_a_client() {
        let settings = Settings::new("127.0.0.1:9", &BTreeMap::new(), false).unwrap();
        for max_bytes in [1, 1 << 16, 1 << 20, 1 << 26, 1 << 32] {
            let config = settings.consumer("c", "g", max_bytes);
            let made: Result<rdkafka::consumer::BaseConsumer, _> = config.create();
            assert!(made.is_ok(), "{max_bytes}: {:?}", made.err());
        }
    }
}
