//! Folder of a local broker: identity, ports and settings, which outlive its processes.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use vintage_bus::TopicTable;

use crate::error::{Error, Result};

const FORMAT: &str = "vintage.local-kafka/1";
/// Range of ports for the nodes. It is below the kernel's range for outgoing connections (32768 and
/// up on Linux), so that none of those takes a port between its choice and the node's start.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Identity and ports of a local broker.
#[derive(Debug)]
pub(crate) struct Cluster {
    dir: PathBuf,
    bootstrap: String,
    saved: Saved,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    format: String,
    cluster_id: String,
    /// Address at which clients connect; `None` for loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listen: Option<Ipv4Addr>,
    nodes: Vec<Ports>,
}

impl Saved {
    fn listen(&self) -> Ipv4Addr {
        self.listen.unwrap_or(Ipv4Addr::LOCALHOST)
    }
}

/// Number of a node and its ports: one for clients, and one on loopback for controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ports {
    pub(crate) node: u16,
    pub(crate) client: u16,
    pub(crate) controller: u16,
}

impl Cluster {
    /// Loads the cluster in `dir`, or creates one there. The caller must hold the folder's lock.
    pub(crate) fn prepare(
        dir: &Path,
        nodes: Option<u16>,
        listen: Option<Ipv4Addr>,
    ) -> Result<Self> {
        let refuse = |reason: String| Error::LocalOptions { reason };
        if let Some(nodes) = nodes.filter(|&nodes| nodes != 1 && nodes != 3) {
            return Err(refuse(format!(
                "{nodes} nodes make no quorum worth having: use 1 or 3"
            )));
        }
        if let Some(cluster) = Self::load(dir)? {
            let found = cluster.saved.nodes.len();
            if let Some(nodes) = nodes.filter(|&nodes| usize::from(nodes) != found) {
                let dir = dir.display();
                return Err(refuse(format!(
                    "{dir} holds a broker of {found} node(s), not {nodes}: use another folder"
                )));
            }
            let found = cluster.saved.listen();
            if let Some(listen) = listen.filter(|listen| *listen != found) {
                let dir = dir.display();
                return Err(refuse(format!(
                    "{dir} holds a broker that listens on {found}, not on {listen}: use another \
                     folder"
                )));
            }
            return Ok(cluster);
        }
        let nodes = nodes.unwrap_or(1);
        let mut id = [0; 16];
        StdRng::from_os_rng().fill(&mut id);
        // A leading dash would be read as an option by Kafka.
        id[0] &= 0x7f;
        let saved = Saved {
            format: FORMAT.into(),
            cluster_id: base64_url(&id),
            listen: listen.filter(|listen| *listen != Ipv4Addr::LOCALHOST),
            nodes: free_ports(nodes, listen.unwrap_or(Ipv4Addr::LOCALHOST))
                .map_err(|source| io_error("finding ports for", dir, source))?,
        };
        let text = serde_json::to_string(&saved).map_err(|error| refuse(error.to_string()))?;
        let path = dir.join("cluster.json");
        fs::write(&path, text + "\n").map_err(|source| io_error("writing", &path, source))?;
        Self::assembled(dir, saved)
    }

    /// Loads the cluster in `dir`; returns `None` if there is none.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("cluster.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("reading", &path, source)),
        };
        let saved: Saved = serde_json::from_str(&text)
            .map_err(|error| io_error("reading", &path, io::Error::other(error)))?;
        if saved.format != FORMAT {
            let reason = format!(
                "{} is of format {}, not {FORMAT}",
                path.display(),
                saved.format
            );
            return Err(Error::LocalOptions { reason });
        }
        Self::assembled(dir, saved).map(Some)
    }

    fn assembled(dir: &Path, saved: Saved) -> Result<Self> {
        let dir = dir
            .canonicalize()
            .map_err(|source| io_error("finding", dir, source))?;
        if dir.as_os_str().as_encoded_bytes().contains(&b',') {
            let reason = format!("Kafka cannot use a folder with a comma: {}", dir.display());
            return Err(Error::LocalOptions { reason });
        }
        let addresses: Vec<_> = saved
            .nodes
            .iter()
            .map(|ports| format!("{}:{}", saved.listen(), ports.client))
            .collect();
        Ok(Self {
            dir,
            bootstrap: addresses.join(","),
            saved,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub(crate) fn id(&self) -> &str {
        &self.saved.cluster_id
    }

    pub(crate) fn nodes(&self) -> &[Ports] {
        &self.saved.nodes
    }

    /// Writes the settings files of every node. Settings in `over` override those of this crate.
    pub(crate) fn write_settings(&self, over: &BTreeMap<String, String>) -> Result<()> {
        for ports in &self.saved.nodes {
            let dir = self.dir.join(format!("n{}", ports.node));
            fs::create_dir_all(&dir).map_err(|source| io_error("creating", &dir, source))?;
            for (name, text) in [
                (
                    "server.properties",
                    self.server_properties(*ports, &dir, over),
                ),
                (
                    "log4j2.properties",
                    include_str!("../../kafka/log4j2.properties").into(),
                ),
            ] {
                let path = dir.join(name);
                fs::write(&path, text).map_err(|source| io_error("writing", &path, source))?;
            }
        }
        Ok(())
    }

    /// Renders a node's `server.properties`. `infra/kafka/README.md` gives the reasons for the
    /// values.
    fn server_properties(&self, own: Ports, dir: &Path, over: &BTreeMap<String, String>) -> String {
        let voters: Vec<_> = self
            .saved
            .nodes
            .iter()
            .map(|ports| format!("{}@127.0.0.1:{}", ports.node, ports.controller))
            .collect();
        let copies = self.saved.nodes.len().to_string();
        let in_sync = if self.saved.nodes.len() == 1 {
            "1"
        } else {
            "2"
        };
        let largest = (2 * TopicTable::builtin().max_message_bytes()).to_string();
        let Ports {
            node,
            client,
            controller,
        } = own;
        let listen = self.saved.listen();
        let listeners =
            format!("PLAINTEXT://{listen}:{client},CONTROLLER://127.0.0.1:{controller}");
        let settings = [
            ("process.roles", "broker,controller"),
            ("node.id", &node.to_string()),
            ("controller.quorum.voters", &voters.join(",")),
            ("controller.listener.names", "CONTROLLER"),
            ("listeners", &listeners),
            (
                "advertised.listeners",
                &format!("PLAINTEXT://{listen}:{client}"),
            ),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            ),
            ("inter.broker.listener.name", "PLAINTEXT"),
            ("log.dirs", &escaped(&dir.join("data").to_string_lossy())),
            ("auto.create.topics.enable", "false"),
            ("default.replication.factor", &copies),
            ("min.insync.replicas", in_sync),
            ("offsets.topic.replication.factor", &copies),
            ("offsets.topic.num.partitions", "4"),
            ("transaction.state.log.replication.factor", &copies),
            ("transaction.state.log.min.isr", in_sync),
            ("transaction.state.log.num.partitions", "4"),
            ("share.coordinator.state.topic.replication.factor", &copies),
            ("share.coordinator.state.topic.min.isr", in_sync),
            ("share.coordinator.state.topic.num.partitions", "1"),
            ("broker.heartbeat.interval.ms", "500"),
            ("broker.session.timeout.ms", "6000"),
            ("group.initial.rebalance.delay.ms", "0"),
            ("group.min.session.timeout.ms", "1000"),
            ("message.max.bytes", &largest),
            ("replica.fetch.max.bytes", &largest),
            ("num.network.threads", "2"),
            ("num.io.threads", "4"),
            ("background.threads", "2"),
            ("log.cleaner.threads", "1"),
            ("log.cleaner.dedupe.buffer.size", "8388608"),
            ("log.segment.bytes", "134217728"),
        ];
        let over = over.iter().map(|(key, value)| (&key[..], &value[..]));
        // Kafka uses the last of two lines with the same key.
        settings
            .into_iter()
            .chain(over)
            .fold(String::new(), |mut text, (key, value)| {
                writeln!(text, "{key}={value}").expect("writing to memory does not fail");
                text
            })
    }
}

/// Escapes a value for `java.util.Properties`, which reads Latin-1 with escapes.
fn escaped(value: &str) -> String {
    value.encode_utf16().fold(String::new(), |mut text, unit| {
        match u8::try_from(unit) {
            Ok(byte @ (b'\\' | b' ')) => text.extend(['\\', char::from(byte)]),
            Ok(byte @ b'!'..=b'~') => text.push(char::from(byte)),
            _ => write!(text, "\\u{unit:04x}").expect("writing to memory does not fail"),
        }
        text
    })
}

fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |bits: u32| char::from(DIGITS[(bits & 63) as usize]);
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let bits = chunk
                .iter()
                .fold(0, |bits, byte| bits << 8 | u32::from(*byte));
            let bits = bits << (8 * (3 - chunk.len()));
            (0..=chunk.len()).map(move |i| digit(bits >> (18 - 6 * i)))
        })
        .collect()
}

/// Finds ports for the nodes: those of clients at `listen`, those of controllers on loopback.
fn free_ports(nodes: u16, listen: Ipv4Addr) -> io::Result<Vec<Ports>> {
    // Each port stays bound until all are chosen, so that none is chosen twice.
    let mut bound = Vec::new();
    let mut random = StdRng::from_os_rng();
    let mut next = |address: Ipv4Addr| -> io::Result<u16> {
        // One that is not an address of this machine has no free port either.
        drop(TcpListener::bind((address, 0))?);
        let start = random.random_range(PORTS);
        let listener = (start..PORTS.end)
            .chain(PORTS.start..start)
            .find_map(|port| TcpListener::bind((address, port)).ok())
            .ok_or_else(|| {
                io::Error::other(format!("no free port from 20000 to 31999 on {address}"))
            })?;
        let port = listener.local_addr()?.port();
        bound.push(listener);
        Ok(port)
    };
    (1..=nodes)
        .map(|node| {
            Ok(Ports {
                node,
                client: next(listen)?,
                controller: next(Ipv4Addr::LOCALHOST)?,
            })
        })
        .collect()
}

pub(crate) fn io_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, net::Ipv4Addr};

    use super::{Cluster, base64_url, escaped, free_ports};
    use crate::error::Error;

    #[test]
    fn base64_is_without_padding() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64_url(bytes.as_bytes()), text);
        }
        assert_eq!(base64_url(&[0xff; 16]).len(), 22);
        assert_eq!(base64_url(&[0xff, 0xef]), "_-8");
    }

    #[test]
    fn properties_are_escaped() {
        assert_eq!(escaped("/a b/ü\\x"), "/a\\ b/\\u00fc\\\\x");
    }

    #[test]
    fn clients_connect_at_the_chosen_address_and_controllers_on_loopback() {
        let dir = tempfile::tempdir().unwrap();
        // All of 127/8 is this machine on Linux.
        let listen = Ipv4Addr::new(127, 0, 0, 2);
        let cluster = Cluster::prepare(dir.path(), Some(1), Some(listen)).unwrap();
        let port = cluster.nodes()[0].client;
        assert_eq!(cluster.bootstrap(), format!("127.0.0.2:{port}"));
        let settings = cluster.server_properties(cluster.nodes()[0], dir.path(), &BTreeMap::new());
        for line in [
            format!("advertised.listeners=PLAINTEXT://127.0.0.2:{port}"),
            format!("listeners=PLAINTEXT://127.0.0.2:{port},CONTROLLER://127.0.0.1:"),
        ] {
            assert!(settings.contains(&line), "{line} is not in {settings}");
        }
        let again = Cluster::prepare(dir.path(), None, None).unwrap();
        assert_eq!(again.bootstrap(), cluster.bootstrap());
        let other = Cluster::prepare(dir.path(), None, Some(Ipv4Addr::LOCALHOST));
        let refused = other.unwrap_err().to_string();
        assert!(refused.contains("listens on 127.0.0.2"), "{refused}");
        let foreign = Ipv4Addr::new(192, 0, 2, 1);
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(Cluster::prepare(elsewhere.path(), None, Some(foreign)).is_err());
    }

    #[test]
    fn ports_differ() {
        let ports = free_ports(3, Ipv4Addr::LOCALHOST).unwrap();
        let mut all: Vec<_> = ports
            .iter()
            .flat_map(|p| [p.client, p.controller])
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn a_folder_keeps_its_cluster() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Cluster::load(dir.path()).unwrap().is_none());
        let made = Cluster::prepare(dir.path(), Some(3), None).unwrap();
        let found = Cluster::prepare(dir.path(), None, None).unwrap();
        assert_eq!(made.nodes(), found.nodes());
        assert_eq!(found.nodes().len(), 3);
        assert_eq!(made.id(), found.id());
        let other = Cluster::prepare(dir.path(), Some(1), None);
        assert!(matches!(other, Err(Error::LocalOptions { .. })));
        assert!(matches!(
            Cluster::prepare(dir.path(), Some(2), None),
            Err(Error::LocalOptions { .. })
        ));
    }

    /// The Docker cluster of `infra/compose.yaml` has the same settings as this one, except for
    /// listeners, node ids, voters and data folders.
    #[test]
    fn the_cluster_of_docker_is_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::prepare(dir.path(), Some(3), None).unwrap();
        cluster.write_settings(&BTreeMap::new()).unwrap();
        let ours = fs::read_to_string(dir.path().join("n1/server.properties")).unwrap();
        let (compose, _roles) = include_str!("../../compose.yaml")
            .split_once("\nx-role:")
            .unwrap();
        let theirs: BTreeMap<_, _> = compose
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            .map(|(name, value)| (name, value.trim_matches('"')))
            .collect();
        let own = ["node.id", "log.dirs", "controller.quorum.voters"];
        let shared = ours
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(|(key, _)| !key.contains("listener") && !own.contains(key));
        let mut held = 0;
        for (key, value) in shared {
            let name = format!("KAFKA_{}", key.to_uppercase().replace('.', "_"));
            assert_eq!(theirs.get(&name[..]), Some(&value), "{key}");
            held += 1;
        }
        assert!(held >= 20, "{held} settings were compared");
        let version = include_str!("../../kafka/pom.xml")
            .split_once("<kafka.version>")
            .and_then(|(_, rest)| rest.split_once('<'))
            .map(|(version, _)| format!("apache/kafka:{version}"));
        assert_eq!(theirs.get("image").copied(), version.as_deref());
    }

    #[test]
    fn a_comma_in_the_path_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let bad = dir.path().join("a,b");
        std::fs::create_dir(&bad).unwrap();
        let bad = Cluster::prepare(&bad, None, None);
        assert!(matches!(bad, Err(Error::LocalOptions { .. })));
    }
}
