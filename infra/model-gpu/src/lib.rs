//! Decoder on a GPU. It computes the same as the CPU kernels of `vintage_model`, with candle's
//! tensor operations, which run on CUDA as well as on a CPU.
//!
//! Nothing here relies on candle's autograd. Each operation has its own vector-Jacobian product, so
//! no gradient can be lost, products are rounded where the CPU kernels round them, and activations
//! are freed as soon as they were used. No operation used here adds with atomics: candle's sums
//! reduce by a tree, and its `index_add` and `scatter_add` process their indices in order.
//!
//! Only a program that is built with the feature `cuda` has this crate in it. Tests run it on
//! candle's CPU device.
//!
//! ```
//! use candle_core::Device;
//! use vintage_model::{Compute, Decoder, DecoderConfig, Packed, ParamSet, Targets};
//! use vintage_model_gpu::DeviceDecoder;
//!
//! let config = DecoderConfig::tiny(16);
//! let params = ParamSet::init(&config, 0)?;
//! let kernels = Decoder::new(config, params)?;
//! let copy = DeviceDecoder::new(&kernels, Compute::default(), &Device::Cpu)?;
//!
//! // Log-prob of the last of three tokens, by the kernels and by the device.
//! let batch = Packed::new([vec![1, 2, 3]]);
//! let targets = Targets { position: vec![1], token: vec![3], temperature: vec![1.0] };
//! let expected = kernels.score(&batch, &targets)?.logprob[0];
//! let found = copy.score(&batch, &targets)?.logprob.to_vec1::<f32>()?[0];
//! assert!((found - expected).abs() < 1e-5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attention;
mod decoder;
mod description;
#[cfg(feature = "cuda")]
mod driver;
mod gpu;
mod gradients;
mod head;
mod layer;
mod ops;

pub use decoder::{DeviceDecoder, DeviceScored, DeviceTape};
pub use description::Gpu;
pub use gpu::{forget_peak, gpu, open_device, peak_bytes};
pub use gradients::DeviceGradients;
