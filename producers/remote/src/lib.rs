//! Engines over HTTP: sample with vLLM, SGLang, llama-server and servers like them.
//!
//! Begin reading at [`RemoteEngine`] (`engine.rs`), which implements the `Engine` trait of
//! `vintage-rollout`. Token ids go in and token ids come out; sampled text is never tokenized again.
//!
//! * `protocol/`: one file per protocol, request bodies and replies without IO; `reply.rs` has the
//!   checks that every completion passes before it is used.
//! * `completion.rs` asks for one completion until it is whole: it repeats what failed, and continues
//!   what a change of weights cut off.
//! * `pool.rs` chooses the server and says when a failed one is tried again, without IO; `servers.rs`
//!   runs it.
//! * `server.rs` recognizes a server, `check.rs` compares it with the in-process engine, `swap.rs`
//!   gives it weights or adapters, from the folders that `stager.rs` fetches and `vintage_local::Staging`
//!   keeps.
//! * `transport.rs` is HTTP, with a [`Reason`] for every failure.
//!
//! ```
//! use vintage_control::{Name, PolicyVersion};
//! use vintage_remote::{RemoteEngine, RemoteSetup};
//! use vintage_settings::{EngineKind, RolloutConfig};
//! use vintage_store::{Store, Weights};
//! # use vintage_model::{DecoderConfig, ModelFolder, ParamSet, Tokenizer};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let location = folder.path().to_string_lossy();
//! let policy: Name = "lead".parse()?;
//! let weights = Weights::new(Store::open(&location)?, policy.clone());
//! # let tokenizer = Tokenizer::characters(&"0123456789+=".chars().collect())?;
//! # let config = DecoderConfig::tiny(tokenizer.vocab_size());
//! # let params = ParamSet::init(&config, 0)?;
//! # let files = ModelFolder::new(config, tokenizer, params)?.files()?.into_iter();
//! # let files = files.map(|(name, bytes)| (name, bytes.into())).collect();
//! # let _ = weights.publish(PolicyVersion::ZERO, files).await?;
//! let mut rollout = RolloutConfig::default();
//! rollout.engine = EngineKind::Vllm;
//! rollout.endpoints = vec!["http://127.0.0.1:9".to_owned()];
//! rollout.server.patience_seconds = 0.1;
//! let served = folder.path().join("served");
//! let setup = RemoteSetup { weights, policy, rollout, folder: served, key: None };
//!
//! // Nobody listens there, and after a while the engine says so.
//! let error = RemoteEngine::open(setup).await.err().expect("no server");
//! assert!(error.to_string().contains("no inference server was in service"));
//! # Ok(())
//! # }
//! ```

mod check;
mod completion;
mod engine;
mod error;
mod fault;
mod label;
mod pool;
mod protocol;
mod reply;
mod server;
mod servers;
mod stager;
mod swap;
mod transport;

pub use engine::{RemoteEngine, RemoteSetup};
pub use error::Error;
pub use fault::{Reason, ServerFault};
