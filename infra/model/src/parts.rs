//! Parts of the decoder that its implementation on another device shares with this one: indices of
//! parameters, the positions that each layer computes, and rotations.

pub use crate::layer::index::{DecoderIndex, LayerIndex, Projection};
pub use crate::lora::{Adapter, scale as adapter_scale};
pub use crate::ops::attention::{Heads, Pattern, Segment};
pub use crate::ops::rope::{Table as Rotations, frequencies};
pub use crate::ops::storage::values;
pub use crate::view::{Readers, View, Views};
