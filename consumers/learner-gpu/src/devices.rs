//! Devices of a program that was built with this crate: the CPU and NVIDIA GPUs.

use candle_core::Device as CandleDevice;
use vintage_control::Fingerprint;
use vintage_learner::engine::UpdateEngine;
use vintage_learner::{AdamW, CpuOnly, Devices, Result, Weigher, fingerprint};
use vintage_model_gpu::{Gpu, forget_peak, gpu, open_device, peak_bytes};
use vintage_settings::Device;

use crate::engine::DeviceEngine;
use crate::weigher::DeviceWeigher;

/// Versions of the crates whose arithmetic the weights depend on, for a GPU; a test compares them
/// with the lock file.
const LIBRARIES: &str = "candle-core 0.11.1, cudarc 0.19.10";

/// CPU and GPUs. An update on the CPU is computed by the kernels.
#[derive(Debug, Clone, Copy)]
pub struct WithGpus;

impl Devices for WithGpus {
    fn open(&self, device: Device, optimizer: AdamW) -> Result<Box<dyn UpdateEngine>> {
        let Some(opened) = open_device(device)? else {
            return CpuOnly.open(device, optimizer);
        };
        let fingerprint = match gpu(device)? {
            Some(gpu) => of_gpu(&gpu),
            None => Fingerprint {
                device: device.to_string(),
                ..fingerprint::current()
            },
        };
        Ok(Box::new(DeviceEngine::new(opened, fingerprint, optimizer)))
    }

    fn describe(&self, device: Device) -> Result<Option<String>, vintage_model::Error> {
        Ok(gpu(device)?.map(|gpu| gpu.to_string()))
    }

    /// Opens the rules on `device`; on the CPU, the GPU's operations there.
    fn weigher(&self, device: Device) -> Result<Box<dyn Weigher>> {
        let opened = open_device(device)?.unwrap_or(CandleDevice::Cpu);
        Ok(Box::new(DeviceWeigher::new(opened)))
    }

    fn peak_bytes(&self, device: Device) -> Option<u64> {
        peak_bytes(device)
    }

    fn forget_peak(&self, device: Device) {
        forget_peak(device);
    }
}

/// Returns the fingerprint of this build on a GPU.
fn of_gpu(gpu: &Gpu) -> Fingerprint {
    Fingerprint {
        libraries: LIBRARIES.to_owned(),
        device: "cuda".to_owned(),
        isa: format!("{}, compute capability {}", gpu.name, gpu.capability),
        caches: format!("driver for CUDA {}", gpu.driver),
        ..fingerprint::current()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn libraries_are_those_of_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        for library in super::LIBRARIES.split(", ") {
            let (name, version) = library.split_once(' ').expect("name and version");
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"");
            assert!(lock.contains(&entry), "{library} is not in Cargo.lock");
        }
    }
}
