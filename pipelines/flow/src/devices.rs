//! Devices that this program can train on.

use vintage_learner::Devices;

/// Returns the devices of this build: the CPU, and GPUs with the feature `cuda`.
#[cfg(feature = "cuda")]
pub fn devices() -> &'static dyn Devices {
    &vintage_learner_gpu::WithGpus
}

/// Returns the devices of this build, which has no code for GPUs: the CPU.
#[cfg(not(feature = "cuda"))]
pub fn devices() -> &'static dyn Devices {
    &vintage_learner::CpuOnly
}
