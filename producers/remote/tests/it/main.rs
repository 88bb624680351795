//! The remote engine against a server that samples with the real decoder and misbehaves on demand.

mod adapters;
mod engine;
mod mischief;
mod policy;
mod server;
mod swaps;
