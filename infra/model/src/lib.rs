//! Differentiable decoder on candle, sampler, tokenizer and Hugging Face folders.
//!
//! The backward pass is written by hand, layer by layer: candle's autograd drops gradients
//! without a word wherever a fused op lacks a backward. Sequences are packed end to end, so no
//! arithmetic is spent on padding. Every result is the same bit for bit at any number of
//! threads, because work is cut by shape only and every sum has one order.

#![expect(
    clippy::inline_always,
    reason = "helpers of a kernel must be compiled along with it for every instruction set"
)]

mod chat;
mod config;
mod cpu;
mod decoder;
mod device;
mod error;
mod folder;
mod footprint;
mod generate;
mod gradients;
mod layer;
mod lora;
mod ops;
mod packed;
mod params;
mod precision;
mod tokenizer;
mod view;

pub use chat::{ChatTemplate, Messages};
pub use config::{Llama3Scaling, ModelConfig, ModelType};
pub use decoder::{Decoder, Tape};
pub use device::{
    DeviceDecoder, DeviceGradients, DeviceScored, DeviceTape, Gpu, forget_peak, gpu, open_device,
    peak_bytes,
};
pub use error::{Error, Result};
pub use folder::ModelFolder;
pub use footprint::{BatchShape, Footprint, GenerationShape};
pub use generate::{Completion, FinishReason, SamplingParams};
pub use gradients::Gradients;
pub use ops::Values;
pub use packed::{Packed, Scored, Targets};
pub use params::{ParamSet, ParamSpec};
pub use precision::Compute;
pub use tokenizer::Tokenizer;
pub use vintage_hub::BaseModel;
