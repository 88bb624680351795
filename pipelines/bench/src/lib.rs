//! Benchmarks of the parts whose speed is promised, each against another way to do the same. The
//! command `vintage bench` runs them and prints their results.
//!
//! Begin with `measure` of a module, or with [`archive::compare`]. [`synthetic`] generates the
//! rollouts.
//!
//! | module | what is measured | against |
//! |---|---|---|
//! | [`weigh`] | M2PO's mask | a full sort; NumPy |
//! | [`codec`] | messages encoded and decoded | copying their bytes |
//! | [`transport`] | rollouts through a Kafka | librdkafka's clients alone |
//! | [`archive`] | a topic drained to Parquet | a pyarrow script; the sink without its guarantees |
//! | [`fleet`] | gate, leases and intake with up to thousands of simulated producers | each producer for itself |
//! | [`curate`] | curators of a replay set over a sliding window | lazy greedy; uniform; newest |
//! | [`publish`] | a version's bytes, whole and as a delta, in f32 and bf16 | Zstandard, XOR, a bitmap |
//! | [`generate`] | sampling, at several batches | transformers' `generate` |
//! | [`update`] | updates of a random model | PyTorch; float32 and bf16 against each other |
//!
//! ```
//! use vintage_bench::codec;
//!
//! // Messages of 4 rows with 32 tokens each; a millisecond for each measurement.
//! let measured = codec::measure(4, 32, 0.001)?;
//! assert!(measured.payload_bytes > 0);
//! assert!(measured.encode_gb_per_s > 0.0 && measured.decode_gb_per_s > 0.0);
//! # Ok::<(), vintage_bench::Error>(())
//! ```

pub mod archive;
mod bare;
pub mod codec;
pub mod curate;
mod error;
pub mod fleet;
pub mod generate;
mod median;
pub mod publish;
mod rival;
pub mod synthetic;
pub mod transport;
pub mod update;
mod used;
pub mod weigh;

pub use error::{Error, Result};
pub use rival::{Ratio, Rounds, Versions};
