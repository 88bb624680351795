//! Engines over HTTP: sample with vLLM, SGLang, llama-server and servers like them.
//!
//! Begin reading at [`RemoteEngine`] (`engine.rs`), which implements the `Engine` trait of
//! `vintage-rollout`. Token ids go in and token ids come out; sampled text is never tokenized again.
//!
//! * `protocol/`: one file per protocol, request bodies and replies without IO; `reply.rs` has the
//!   checks that every completion passes before it is used.
//! * `completion.rs` asks for one completion until it is whole: it repeats what failed, and continues
//!   what a change of weights cut off.
//! * `pool.rs` chooses the server and says when a failed one is tried again, without IO; `fleet.rs`
//!   runs it.
//! * `server.rs` recognizes a server, `check.rs` compares it with the in-process engine, `swap.rs`
//!   replaces its weights, from the folders that `staging.rs` writes.
//! * `transport.rs` is HTTP, with a [`Reason`] for every failure.
//!
//! ```no_run
//! use vintage_control::Name;
//! use vintage_remote::{RemoteEngine, RemoteSetup};
//! use vintage_settings::{EngineKind, RolloutConfig};
//! use vintage_store::{Store, Weights};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy: Name = "lead".parse()?;
//! let engine = RemoteEngine::open(RemoteSetup {
//!     weights: Weights::new(Store::open("runs/a")?, policy.clone()),
//!     policy,
//!     rollout: RolloutConfig {
//!         engine: EngineKind::Vllm,
//!         endpoints: vec!["http://127.0.0.1:8000".to_owned()],
//!         ..RolloutConfig::default()
//!     },
//!     folder: "runs/a/served".into(),
//!     key: None,
//! })
//! .await?;
//! # Ok(())
//! # }
//! ```

mod check;
mod completion;
mod engine;
mod error;
mod fault;
mod fleet;
mod label;
mod pool;
mod protocol;
mod reply;
mod server;
mod staging;
mod swap;
mod transport;

pub use engine::{RemoteEngine, RemoteSetup};
pub use error::Error;
pub use fault::{Fault, Reason};
