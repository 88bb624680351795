use std::path::PathBuf;

use vintage_control::Fault;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Failure to start, use or stop a local broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Missing or outdated program that the local broker needs.
    #[error(
        "the local broker needs {needed}, but {found}: \
         apt-get install openjdk-17-jre-headless maven"
    )]
    MissingProgram {
        /// Program that is needed: Java with its oldest usable version, or Maven.
        needed: &'static str,
        /// Description of the program found instead, or of the failure to start it.
        found: String,
    },
    /// Failure to download Kafka's jars.
    #[error("fetching Apache Kafka {version} into {}: {reason}", into.display())]
    Fetch {
        /// Version of Kafka.
        version: String,
        /// Folder of that version in the cache.
        into: PathBuf,
        /// Reason for the failure, mostly in Maven's words.
        reason: String,
    },
    /// `KAFKA_HOME` without Apache Kafka 4 or a newer version.
    #[error("KAFKA_HOME={} holds no Apache Kafka 4: {reason}", home.display())]
    KafkaHome {
        /// Value of `KAFKA_HOME`.
        home: PathBuf,
        /// Missing file, or the unsuitable version found.
        reason: String,
    },
    /// Local broker that another process uses, starts or stops.
    #[error(
        "the local broker in {} is used, started or stopped by another process: \
         wait for it to end, or use another folder",
        dir.display()
    )]
    LocalInUse {
        /// Folder of the broker.
        dir: PathBuf,
    },
    /// Node of a local broker that did not start, ended, or does not obey a signal.
    #[error("local broker node {node} in {} {reason}; the end of its log:\n{tail}", dir.display())]
    Node {
        /// Number of the node, from 1.
        node: u16,
        /// Folder of the broker.
        dir: PathBuf,
        /// Failure of the node, as a verb phrase such as `was not ready within 90 s`.
        reason: String,
        /// Last lines of the node's log.
        tail: String,
    },
    /// Options of a local broker that cannot be used, or that its folder contradicts.
    #[error("local broker: {reason}")]
    LocalOptions {
        /// Reason for the refusal.
        reason: String,
    },
    /// Failed operation on a file, folder or process of a local broker.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// Operation that was attempted, such as `reading`.
        action: &'static str,
        /// File, folder or program concerned.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// Failure of a client of the broker, whose nodes were started.
    #[error(transparent)]
    Bus(#[from] vintage_bus::Error),
}

impl Error {
    /// Returns the party that can do something about the error.
    pub fn fault(&self) -> Fault {
        match self {
            Self::MissingProgram { .. }
            | Self::KafkaHome { .. }
            | Self::LocalInUse { .. }
            | Self::LocalOptions { .. } => Fault::User,
            Self::Fetch { .. } | Self::Node { .. } | Self::Io { .. } => Fault::External,
            Self::Bus(error) => error.fault(),
        }
    }
}
