//! Arms of `vintage bench archive`, and what one of them reports.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Program that drains the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// Reader that decodes and writes nothing.
    Null,
    /// Sink with all guarantees, as in a run.
    Vintage,
    /// Python script with pyarrow and confluent-kafka.
    Pyarrow,
    /// Sink that does not sync files to disk.
    NoFsync,
    /// Sink that renames files over existing ones.
    NoFence,
    /// Sink that does not sync files, and renames them over existing ones.
    Neither,
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Vintage => "vintage",
            Self::Pyarrow => "pyarrow",
            Self::NoFsync => "no-fsync",
            Self::NoFence => "no-fence",
            Self::Neither => "neither",
        })
    }
}

/// Result of one drain, as its process reports it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drained {
    /// Number of messages read.
    pub messages: u64,
    /// Number of rows in the messages.
    pub rows: u64,
    /// Number of files written.
    pub files: u64,
    /// Size of the files on disk, in bytes.
    pub file_bytes: u64,
    /// Size on disk of the completions' token ids and log-probs, in bytes; 0 if nothing is written.
    pub token_bytes: u64,
    /// CPU time of the drain, user and system, in seconds.
    pub cpu_seconds: f64,
    /// Wall-clock time of the drain, in seconds.
    pub wall_seconds: f64,
    /// Peak memory of the process, in MB (1e6 bytes).
    pub peak_rss_mb: f64,
}
