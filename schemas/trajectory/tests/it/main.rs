//! Tests of the trajectory schema as other crates and other languages use it.

mod allocation;
mod codec;
mod digest;
mod foreign;
mod golden;
mod headers;
mod readme;
mod sample;
mod split;
mod validation;
