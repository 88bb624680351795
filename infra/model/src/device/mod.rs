//! The decoder on a device: the mathematics of the kernels in `ops`, composed of candle's tensor
//! operations, which have kernels for CUDA as well as for a CPU.
//!
//! Nothing here relies on candle's autograd: each piece brings its vector-Jacobian product, so
//! that a gradient cannot be lost on the way, products are rounded where the kernels round them,
//! and activations are freed as soon as they were used. No operation used here adds with atomics:
//! candle's sums reduce by a tree, its `index_add` and `scatter_add` walk their indices in order.

mod attention;
mod decoder;
#[cfg(feature = "cuda")]
mod driver;
mod gpu;
mod gradients;
mod head;
mod layer;
mod ops;

pub use self::decoder::{DeviceDecoder, DeviceScored, DeviceTape};
pub use self::gpu::{Gpu, forget_peak, gpu, open_device, peak_bytes};
pub use self::gradients::DeviceGradients;
