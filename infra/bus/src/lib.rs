//! Kafka access for every role: producers, consumers, topic administration, and the brokers they
//! connect to. This is the only crate that names rdkafka.
//!
//! Where to begin reading:
//!
//! * [`Bus`] is the handle to one cluster. [`Bus::connect`] makes it from an address; [`Embedded`]
//!   is a mock broker inside this process. A real Apache Kafka on loopback is managed by
//!   `infra/broker`. All other types work the same with each of the three.
//! * [`Producer`] appends records. [`Consumer`] reads one topic as a stream of [`Event`]s, and
//!   [`Snapshot`] reads a topic up to its present end.
//! * [`TopicTable`] holds the topic settings and sizes of a run. [`Checkup`] and [`Concern`] report
//!   how an existing topic differs from its [`TopicSpec`].
//! * [`Error`] lists every failure, and [`Error::fault`] says who can fix it.
//! * `settings.rs` explains the librdkafka settings, `poll.rs` the consumer's poll thread, and
//!   `window.rs` the flow control of the embedded broker.
//!
//! ```
//! use bytes::Bytes;
//! use vintage_bus::{Embedded, TopicTable};
//! use vintage_control::Topics;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let topics = Topics { namespace: "vintage".parse()?, run: "demo".parse()? };
//! let broker = Embedded::start(&TopicTable::builtin().specs(&topics, 1, 1)).await?;
//! let (bus, topic) = (broker.bus(), topics.rollouts());
//!
//! let producer = bus.producer("writer")?;
//! let sent = producer.publish(&topic, b"key", Vec::new(), Bytes::from("hello")).await?;
//!
//! let mut records = bus.snapshot("reader", &topic, |_, first, _| Some(first)).await?;
//! let record = records.next().await?.expect("the record just published");
//! assert_eq!((record.partition, record.offset), (sent.partition, sent.offset));
//! assert_eq!(record.payload.as_deref(), Some(&b"hello"[..]));
//! # Ok(())
//! # }
//! ```

mod admin;
mod ask;
mod bus;
mod checkup;
mod client;
mod concern;
mod consumer;
mod embedded;
mod error;
mod feed;
mod gate;
mod group;
mod mock;
mod openssl;
mod partition;
mod poll;
mod producer;
mod readers;
mod rebalance;
mod record;
mod settings;
mod snapshot;
mod spec;
mod topics;
mod whole;
mod window;
mod withheld;

pub use ask::Replicas;
pub use bus::Bus;
pub use checkup::Checkup;
pub use concern::{Concern, Severity};
pub use consumer::Consumer;
pub use embedded::Embedded;
pub use error::{Error, Result, StartError};
pub use feed::Event;
pub use producer::Producer;
pub use readers::{Lag, Readers};
pub use rebalance::StartOffsets;
pub use record::{Delivery, Header, Outgoing, Record};
pub use settings::is_secret_option;
pub use snapshot::Snapshot;
pub use spec::ConsumerLimits;
pub use topics::{TopicSpec, TopicTable};
pub use whole::WholeTopic;
pub use withheld::Withheld;
