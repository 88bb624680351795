//! Training on a GPU: the counterparts of decoder, rule and optimizer that keep their data there.
//!
//! [`WithGpus`] is what a program gives to its learner instead of `vintage_learner::CpuOnly`.
//! `engine.rs` computes an update on a copy of the policy (`policy.rs`): the decoder of
//! `vintage_model_gpu`, M2PO's rules ([`weigh`]) with their mask (`mask.rs`), and AdamW
//! (`adamw.rs`).
//!
//! Only a program that is built with the feature `cuda` has this crate in it. Tests run it on
//! candle's CPU device, which `Device::Emulated` names.
//!
//! ```
//! use vintage_learner::{CpuOnly, Devices};
//! use vintage_learner_gpu::WithGpus;
//! use vintage_losses::{Rule, Tokens};
//! use vintage_settings::Device;
//!
//! // Three tokens; the last one's new policy has gone far from the one that sampled it.
//! let (new, behavior) = ([-1.0_f32, -1.1, -0.1], [-1.0_f32, -1.0, -4.0]);
//! let tokens = Tokens::new(&new, &behavior, &[1.0; 3], &[true; 3]);
//! let rule = Rule::M2poPaper { tau: 0.04 };
//! let masks = [
//!     CpuOnly.weigher(Device::Cpu)?.weigh(&rule, &tokens),
//!     WithGpus.weigher(Device::Emulated)?.weigh(&rule, &tokens),
//! ];
//! for weighed in masks {
//!     assert_eq!(weighed.map_err(|_| "refused")?.mask, [true, true, false]);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
