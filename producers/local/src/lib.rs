//! Local inference engine: samples in this process, with the learner's own decoder.
//!
//! Begin reading at [`LocalEngine`] (`engine.rs`), which implements the `Engine` trait of
//! `vintage-rollout`. It reads a policy's weights from the run's store, so a producer needs only
//! the store and the log. Its log-probs come from the same arithmetic as the learner's. It knows
//! nothing of the learner itself. [`Texts`] is the text
//! side of a policy, which engines of other processes need too, as they do [`Staging`], which writes versions
//! into folders. [`LocalModel`] is the model without the
//! store, which `vintage-serve` serves. [`Error`] lists the failures and maps each to an `EngineError`.
//!
//! ```
//! use vintage_control::{Name, PolicyVersion};
//! use vintage_local::LocalEngine;
//! use vintage_rollout::Sampling;
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
//! let engine = LocalEngine::open(weights, policy, PolicyVersion::ZERO).await?;
//!
//! let sampling = Sampling { max_tokens: 4, temperature: 1.0, top_p: 1.0, top_k: 0 };
//! let prompts = ["1+2=".to_owned(), "1+2=".to_owned()];
//! let completions = engine.generate(&prompts, sampling, vec![7, 7]).await?;
//! assert_eq!(completions[0].logprobs.len(), completions[0].tokens.len());
//! assert_eq!(completions[0].tokens, completions[1].tokens); // they have one seed
//! # Ok(())
//! # }
//! ```

mod engine;
mod error;
mod local_model;
mod roll;
#[cfg(feature = "faults")]
mod sabotage;
mod staging;
mod texts;

pub use engine::{Generated, LocalEngine};
pub use error::Error;
pub use local_model::{Likeliest, LocalModel};
pub use roll::Source;
pub use staging::Staging;
pub use texts::{NO_CHAT_TEMPLATE, Texts};
