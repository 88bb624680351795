//! Tests of the decoder on a device against the CPU kernels, on candle's CPU device.

mod device;
#[path = "../../../model/tests/it/models.rs"]
mod models;
