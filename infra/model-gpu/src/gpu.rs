//! Opening of a GPU, and its memory.

use candle_core::Device as CandleDevice;
use vintage_model::{Error, Result};
use vintage_settings::Device;

use crate::description::Gpu;

/// Opens candle's device, looking for the GPU before candle takes it for granted; `None` on the CPU,
/// whose kernels take no device.
///
/// # Errors
/// Says what is missing: the feature in this build, driver, GPU or a library of CUDA.
pub fn open_device(device: Device) -> Result<Option<CandleDevice>> {
    match device {
        Device::Cpu => Ok(None),
        Device::Emulated => Ok(Some(CandleDevice::Cpu)),
        Device::Cuda(number) => {
            gpu(device)?;
            // Not `new_cuda`: its stream is another one on every thread, and updates do not
            // stay on one thread.
            CandleDevice::new_cuda_with_stream(number)
                .map(Some)
                .map_err(|error| refuse(device, &error.to_string()))
        }
    }
}

/// Describes the GPU, if `device` is one.
///
/// # Errors
/// As [`open_device`].
pub fn gpu(device: Device) -> Result<Option<Gpu>> {
    match device {
        Device::Cpu | Device::Emulated => Ok(None),
        Device::Cuda(number) => look(device, number).map(Some),
    }
}

/// Peak of the GPU memory that this process had in use at once, in bytes, since it started or
/// since [`forget_peak`]; `None` on the CPU.
#[cfg(feature = "cuda")]
pub fn peak_bytes(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(number) => crate::driver::peak_bytes(number).ok(),
        Device::Cpu | Device::Emulated => None,
    }
}

/// Peak of a GPU's memory, which a build without CUDA does not know.
#[cfg(not(feature = "cuda"))]
pub fn peak_bytes(_: Device) -> Option<u64> {
    None
}

/// Resets the peak that [`peak_bytes`] returns.
#[cfg(feature = "cuda")]
pub fn forget_peak(device: Device) {
    if let Device::Cuda(number) = device {
        // Without it, the peak is that of the process.
        let _not_there = crate::driver::forget_peak(number);
    }
}

/// Resets nothing: a build without CUDA knows no peak.
#[cfg(not(feature = "cuda"))]
pub fn forget_peak(_: Device) {}

#[cfg(feature = "cuda")]
fn look(device: Device, number: usize) -> Result<Gpu> {
    crate::driver::gpu(number).map_err(|problem| refuse(device, &problem))
}

#[cfg(not(feature = "cuda"))]
fn look(device: Device, _: usize) -> Result<Gpu> {
    Err(Error::without_cuda(device))
}

fn refuse(device: Device, problem: &str) -> Error {
    Error::Device {
        place: device.to_string(),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_build_without_cuda_says_how_to_get_one() {
        use super::{Device, open_device};

        let error = open_device(Device::Cuda(0)).unwrap_err().to_string();
        assert!(error.starts_with("opening cuda:0: "), "{error}");
        assert!(error.contains("infra/cuda/build.sh"), "{error}");
        assert!(open_device(Device::Cpu).unwrap().is_none());
    }
}
