//! The operations of the decoder: one file each, one signature over tensors, a CPU kernel on
//! slices. A kernel for another device goes beside the CPU one, behind the same signature.

pub(crate) mod attention;
pub(crate) mod embedding;
pub(crate) mod head;
pub(crate) mod linear;
pub(crate) mod rmsnorm;
pub(crate) mod rope;
pub(crate) mod rows;
mod storage;
pub(crate) mod swiglu;

pub use self::storage::Values;
pub(crate) use self::storage::{deep_copy, tensor, values, with_mut};
