//! Differentiable decoder on candle, with sampler, tokenizer, chat templates and Hugging Face
//! folders.
//!
//! The backward pass is written by hand, layer by layer, because candle's autograd silently drops
//! gradients wherever a fused op lacks a backward. Sequences are packed end to end, so no
//! arithmetic is spent on padding. On a CPU every result is the same bit for bit at any number of
//! threads, because work is split by shape only and every sum has one order.
//!
//! Places to begin reading:
//! * [`ModelFolder`] and [`HubModel`]: finding and opening a model.
//! * [`Decoder`]: scoring, forward and backward pass over a [`Packed`] batch, and sampling.
//! * `layer` and `ops`: one transformer layer and the operations in it, each with its backward.
//! * [`parts`]: what the same passes on a GPU (`infra/model-gpu`) share with these.
//! * [`LoraConfig`], [`Compute`] and [`Footprint`]: adapters, precision and memory.
//! * [`Tokenizer`] and [`ChatTemplate`]: text to token ids and back.
//!
//! ```
//! use vintage_model::{Decoder, Gradients, DecoderConfig, Packed, ParamSet, Targets};
//!
//! let config = DecoderConfig::tiny(16);
//! let params = ParamSet::init(&config, 0)?;
//! let decoder = Decoder::new(config, params)?;
//!
//! // Two sequences; the targets are the last token of each.
//! let batch = Packed::new([vec![1, 2, 3], vec![4, 5]]);
//! let targets = Targets { position: vec![1, 3], token: vec![3, 5], temperature: vec![1.0; 2] };
//! let (scored, tape) = decoder.forward(&batch, &targets)?;
//! assert!(scored.logprob.iter().all(|&logprob| logprob < 0.0));
//!
//! let mut gradients = Gradients::zeros_like(decoder.trainable())?;
//! decoder.backward(tape, &[1.0, 1.0], &mut gradients)?;
//! assert!(gradients.global_norm() > 0.0);
//! # Ok::<(), vintage_model::Error>(())
//! ```

#![expect(
    clippy::inline_always,
    reason = "helpers of a kernel must be compiled along with it for every instruction set"
)]

mod chat;
mod config;
mod cpu;
mod decoder;
mod error;
mod folder;
mod footprint;
mod generate;
mod gradients;
mod layer;
mod lora;
mod notes;
mod ops;
mod pace;
mod packed;
mod params;
pub mod parts;
mod precision;
mod tokenizer;
mod view;

pub use chat::{ChatTemplate, Following, Messages, Rewriting};
pub use config::{DecoderConfig, Llama3Scaling, ModelType};
pub use decoder::{Decoder, Tape};
pub use error::{Error, Result};
pub use folder::ModelFolder;
pub use footprint::{BatchShape, Footprint, GenerationShape};
pub use generate::{Ask, Batch, Completion, FinishReason, SamplingParams};
pub use gradients::Gradients;
pub use ops::storage::Values;
pub use pace::Computed;
pub use packed::{Packed, Predictors, Scored, Sequence, Targets};
pub use params::{ParamSet, spec::ParamSpec};
pub use precision::Compute;
pub use tokenizer::Tokenizer;
pub use vintage_hub::BaseModel;
