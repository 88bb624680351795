//! Options of a local broker.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf, time::Duration};

/// Options of a local broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalOptions {
    /// Number of nodes: 1, or 3 for replication. Each is a broker and a controller in one process.
    /// `None` uses as many as the folder has, or 1 in a new folder.
    pub nodes: Option<u16>,
    /// Address of this machine at which clients connect, so that other machines reach the nodes.
    /// `None` for the folder's own, or loopback in a new folder. Nothing asks who connects.
    pub listen: Option<Ipv4Addr>,
    /// True if the broker stays up without users, until [`crate::LocalKafka::down_dir`].
    pub keep: bool,
    /// Java heap of each node, in MiB.
    pub heap_mib: u32,
    /// Kafka settings that override those of this crate, such as a listener with TLS. Ports and
    /// topology must not be overridden.
    pub settings: BTreeMap<String, String>,
    /// Longest wait until a client can produce.
    pub ready_within: Duration,
    /// Folder of an unpacked Apache Kafka 4 release; `None` downloads the jars from Maven Central.
    pub kafka_home: Option<PathBuf>,
    /// Folder in which downloaded jars are cached for all runs.
    pub cache: PathBuf,
}

impl Default for LocalOptions {
    /// Returns options for nodes with a heap of 384 MiB that end with the last process that uses
    /// them. `KAFKA_HOME` is used if set. Jars are cached in `$XDG_CACHE_HOME/vintage` or
    /// `~/.cache/vintage`.
    fn default() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || set("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
        let cache = set("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
        Self {
            nodes: None,
            listen: None,
            keep: false,
            heap_mib: 384,
            settings: BTreeMap::new(),
            ready_within: Duration::from_secs(90),
            kafka_home: set("KAFKA_HOME").map(PathBuf::from),
            cache: cache.join("vintage"),
        }
    }
}
