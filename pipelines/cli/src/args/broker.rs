//! Arguments of `vintage broker`.
use std::{net::Ipv4Addr, path::PathBuf};

use clap::{Args, Subcommand};

/// A real Apache Kafka on this machine, for trying things out.
#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    #[command(subcommand)]
    pub(crate) command: BrokerCommand,
}

const BROKER_UP: &str = "\
Examples:
  vintage broker up
  vintage run --broker \"$(vintage broker up --output json | jq -r .bootstrap)\"
  vintage broker up --nodes 3 --listen 10.0.0.5

Needs Java 17 or newer. Kafka itself comes from Maven Central, once, into the cache folder, or
from KAFKA_HOME if that is set. It listens on loopback only, unless --listen names another address of
this machine. Anyone who reaches that address can read and write: use it in a network of your own.";
const BROKER_STATUS: &str = "\
Examples:
  vintage broker status
  vintage broker status --dir runs/a/kafka --output json | jq .running";
const BROKER_DOWN: &str = "\
Examples:
  vintage broker down
  vintage broker down --dir /tmp/kafka";

/// Actions on the local broker.
#[derive(Debug, Subcommand)]
pub(crate) enum BrokerCommand {
    /// Starts the broker unless it runs already, and prints its address.
    #[command(after_long_help = BROKER_UP)]
    Up {
        /// Folder of the broker's data, ports and logs.
        #[arg(long, value_name = "DIR", default_value = "kafka")]
        dir: PathBuf,
        /// Number of brokers: 1, or 3 for replication. [default: as DIR has, or 1]
        #[arg(long, value_name = "N")]
        nodes: Option<u16>,
        /// IPv4 address of this machine at which other machines reach the broker. [default: as DIR
        /// has, or loopback]
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<Ipv4Addr>,
    },
    /// Shows whether the broker runs, and whether it is needed; exit code 3 unless every node runs.
    #[command(after_long_help = BROKER_STATUS)]
    Status {
        /// Folder in which the broker was started.
        #[arg(long, value_name = "DIR", default_value = "kafka")]
        dir: PathBuf,
    },
    /// Stops the broker; its data stay.
    #[command(after_long_help = BROKER_DOWN)]
    Down {
        /// Folder in which the broker was started.
        #[arg(long, value_name = "DIR", default_value = "kafka")]
        dir: PathBuf,
    },
}
