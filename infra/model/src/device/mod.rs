//! Decoder on a device. It computes the same as the CPU kernels in `ops`, with candle's tensor
//! operations, which run on CUDA as well as on a CPU.
//!
//! Nothing here relies on candle's autograd. Each operation has its own vector-Jacobian product, so
//! no gradient can be lost, products are rounded where the CPU kernels round them, and activations
//! are freed as soon as they were used. No operation used here adds with atomics: candle's sums
//! reduce by a tree, and its `index_add` and `scatter_add` process their indices in order.

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

pub use self::decoder::{DeviceDecoder, DeviceScored, DeviceTape};
pub use self::description::Gpu;
pub use self::gpu::{forget_peak, gpu, open_device, peak_bytes};
pub use self::gradients::DeviceGradients;
