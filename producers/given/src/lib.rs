//! Producer whose completions a program gives, such as a script that samples in its own way: the
//! engine hands out slots and takes groups back, checked. All else is the producer's own: leases,
//! numbers, journal, gate.
//!
//! Begin reading at [`Desk`] (`desk.rs`), where the program takes slots and answers them.
//! `engine.rs` is the engine at its other side. `check.rs` turns what is given into completions, or
//! says which field of which row is wrong. `reward.rs` passes on rewards that came with the
//! completions.
//!
//! ```
//! use std::time::Duration;
//! use vintage_given::{Desk, GivenEngine, GivenSettings, Completion, Stage};
//! # use std::{collections::BTreeMap, sync::Arc};
//! # use futures::StreamExt as _;
//! # use vintage_control::{Name, PolicyVersion};
//! # use vintage_model::{DecoderConfig, ModelFolder, ParamSet, Tokenizer};
//! # use vintage_rollout::{Engine as _, Form, Prompt, SampleRequest, Sampling};
//! # use vintage_store::{Store, Weights};
//! # use vintage_trajectory::GroupId;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let policy: Name = "lead".parse()?;
//! # let weights = Weights::new(Store::open(&folder.path().to_string_lossy())?, policy.clone());
//! # let tokenizer = Tokenizer::characters(&"0123456789+=".chars().collect())?;
//! # let config = DecoderConfig::tiny(tokenizer.vocab_size());
//! # let params = ParamSet::init(&config, 0)?;
//! # let files = ModelFolder::new(config, tokenizer, params)?.files()?.into_iter();
//! # let files = files.map(|(name, bytes)| (name, bytes.into())).collect();
//! # let _ = weights.publish(PolicyVersion::ZERO, files).await?;
//! # let prompt = Prompt {
//! #     id: "a".to_owned(), text: "1+2=".to_owned(), form: Form::Plain, chat: None, extras: None,
//! #     answer: None, metadata: BTreeMap::new(), file: 0, line: 1,
//! # };
//! # let sampling = Sampling { max_tokens: 4, temperature: 1.0, top_p: 1.0, top_k: 0 };
//! # let request = SampleRequest {
//! #     prompt: Arc::new(prompt), turn: None, group: GroupId([7; 16]), samples: 2, seed: 7, sampling,
//! # };
//! # let settings = GivenSettings { name: "my-script".to_owned(), exact: false, scores: false };
//! let desk = Desk::default();
//! let mut engine = GivenEngine::open(weights, &policy, desk.clone(), settings).await?;
//! let mut groups = engine.sample(vec![request]); // a worker does this
//!
//! let Stage::Slot(slot) = desk.take(Duration::ZERO) else { panic!("no slot") };
//! let completion = Completion {
//!     tokens: vec![3, 5],
//!     logprobs: vec![-0.5, -1.25],
//!     reward: Some(1.0),
//!     ..Completion::default()
//! };
//! let wrong = vec![completion.clone(), Completion { logprobs: vec![0.5, 0.0], ..completion.clone() }];
//! let refused = desk.answer(slot.group, wrong).unwrap_err().to_string();
//! assert!(refused.starts_with("logprobs[1][0] is 0.5"), "{refused}");
//! assert!(desk.answer(slot.group, vec![completion.clone(), completion])?); // still open: right now
//! let (_, group) = groups.next().await.ok_or("no group")?;
//! assert_eq!(group?.len(), 2);
//! # Ok(())
//! # }
//! ```

mod check;
mod desk;
mod engine;
mod error;
mod reward;

pub use check::{Completion, Versions};
pub use desk::{Desk, Slot, Stage};
pub use engine::{GivenEngine, GivenSettings};
pub use error::Error;
pub use reward::GivenReward;
