//! A real Apache Kafka on loopback, for a run, a test or a look: [`LocalKafka`] fetches its jars,
//! gives it ports, starts its nodes, watches them and ends them. How to talk to it is
//! `vintage-bus`, which this crate uses only to see that a broker it started works.

mod claim;
mod cluster;
mod error;
mod jars;
mod local;
mod node;

pub use error::{Error, Result};
pub use local::{LocalKafka, LocalOptions};
