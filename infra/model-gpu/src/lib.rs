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
