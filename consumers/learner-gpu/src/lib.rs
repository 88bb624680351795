//! Training on a GPU: the counterparts of decoder, rule and optimizer that keep their data there.
//!
//! [`WithGpus`] is what a program gives to its learner instead of `vintage_learner::CpuOnly`.
//! `engine.rs` computes an update on a copy of the policy (`policy.rs`): the decoder of
//! `vintage_model_gpu`, M2PO's rules ([`weigh`]) with their mask (`mask.rs`), and AdamW
//! (`adamw.rs`).
//!
//! Only a program that is built with the feature `cuda` has this crate in it. Tests run it on
//! candle's CPU device, which `Device::Emulated` names.

mod adamw;
mod devices;
mod engine;
mod mask;
mod policy;
#[cfg(test)]
mod tests;
mod tokens;
mod weigh;
mod weigher;

pub use devices::WithGpus;
pub use engine::DeviceEngine;
pub use policy::DevicePolicy;
pub use tokens::Known;
pub use weigh::{DeviceWeighed, Problem, weigh};
