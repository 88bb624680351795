use std::path::PathBuf;

use vintage_bus::Fault;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a local broker could not be brought up, used or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that the local broker needs is missing or too old.
    #[error(
        "the local broker needs {needed}, but {found}: \
         apt-get install openjdk-17-jre-headless maven"
    )]
    MissingProgram {
        /// Java or Maven with its version.
        needed: &'static str,
        /// What was found instead.
        found: String,
    },
    /// Kafka's jars could not be had.
    #[error("fetching Apache Kafka {version} into {}: {detail}", into.display())]
    Fetch {
        /// Version of Kafka.
        version: String,
        /// The folder.
        into: PathBuf,
        /// What went wrong.
        detail: String,
    },
    /// KAFKA_HOME holds no Kafka.
    #[error("KAFKA_HOME={} holds no Apache Kafka 4: {detail}", home.display())]
    KafkaHome {
        /// The folder.
        home: PathBuf,
        /// What is missing.
        detail: String,
    },
    /// The folder of a local broker is used by another process.
    #[error(
        "the local broker in {} is used, started or stopped by another process: \
         wait for it to end, or use another folder",
        dir.display()
    )]
    LocalInUse {
        /// The folder.
        dir: PathBuf,
    },
    /// A node of the local broker did not come up, or went away.
    #[error("local broker node {node} in {} {what}; the end of its log:\n{tail}", dir.display())]
    Node {
        /// From 1.
        node: u16,
        /// Folder of the broker.
        dir: PathBuf,
        /// What it did.
        what: String,
        /// Last lines of its log.
        tail: String,
    },
    /// The local broker's own settings make no sense.
    #[error("local broker: {detail}")]
    LocalOptions {
        /// What is wrong.
        detail: String,
    },
    /// A file of the local broker could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Its nodes run, and a client could not use it.
    #[error(transparent)]
    Bus(#[from] vintage_bus::Error),
}

impl Error {
    /// Who can do something about it.
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
