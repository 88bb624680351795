//! The trajectory schema as other crates and other languages use it.

mod allocation;
mod codec;
mod digest;
mod foreign;
mod golden;
mod headers;
mod sample;
mod split;
mod validation;
