//! Operations of the decoder on a CPU. Each file has one operation: functions over tensors with a
//! kernel on slices.

pub(crate) mod attention;
pub(crate) mod embedding;
pub(crate) mod head;
pub(crate) mod linear;
pub(crate) mod rmsnorm;
pub(crate) mod rope;
pub(crate) mod rows;
pub(crate) mod storage;
pub(crate) mod swiglu;
