//! The log: producers and consumers over Apache Kafka's protocol, topics, and the brokers they
//! talk to. The only crate of a run that names rdkafka.
//!
//! A [`Bus`] is how to reach a log: [`Bus::connect`] for an address, [`Embedded`] for a broker
//! inside this process. Everything after that is the same for both.

mod admin;
mod ask;
mod bus;
mod checkup;
mod client;
mod concern;
mod consumer;
mod embedded;
mod error;
mod gate;
mod group;
mod partition;
mod poll;
mod producer;
mod rebalance;
mod record;
mod settings;
mod snapshot;
mod topics;
mod whole;
mod window;
mod withheld;

pub use ask::Replicas;
pub use bus::Bus;
pub use checkup::Checkup;
pub use concern::{Concern, Weight};
pub use consumer::{Consumer, ConsumerLimits, Event};
pub use embedded::Embedded;
pub use error::{Error, Fault, Result, StartError};
pub use producer::Producer;
pub use rebalance::StartOffsets;
pub use record::{Delivery, Header, Outgoing, Record};
pub use settings::is_secret_option;
pub use snapshot::Snapshot;
pub use topics::{TopicSpec, TopicTable};
pub use whole::WholeTopic;
pub use withheld::Withheld;
