//! Devices that a program can train on, and what it asks them for.

use std::fmt;

use tokio::sync::watch;
use vintage_losses::{Rule, Tokens, Weighed};
use vintage_settings::Device;

use crate::{adamw::AdamW, engine::UpdateEngine, error::Result, host::HostEngine};

/// Devices that a program is built for. Methods that open one refuse any other, and say what is
/// missing: the feature in this build, driver, GPU or a library of CUDA. What is given here holds for
/// a program that computes on no GPU itself.
pub trait Devices: fmt::Debug + Send + Sync {
    /// Opens the engine that trains on `device` and continues with the moments of `optimizer`.
    fn open(&self, device: Device, optimizer: AdamW) -> Result<Box<dyn UpdateEngine>>;

    /// Describes the device, if it is a GPU.
    fn describe(&self, _: Device) -> Result<Option<String>, vintage_model::Error> {
        Ok(None)
    }

    /// Opens the implementation of M2PO's rules on a device.
    fn weigher(&self, _: Device) -> Result<Box<dyn Weigher>> {
        Ok(Box::new(HostWeigher))
    }

    /// Returns the peak of the GPU memory that this process had in use at once, in bytes, since it
    /// started or since [`Devices::forget_peak`]; `None` on the CPU.
    fn peak_bytes(&self, _: Device) -> Option<u64> {
        None
    }

    /// Resets the peak that [`Devices::peak_bytes`] returns.
    fn forget_peak(&self, _: Device) {}

    /// Returns whether the next update is wanted, where a program asks for each: until it is, none
    /// is planned. `None` if all are wanted.
    fn wanted(&self) -> Option<watch::Receiver<bool>> {
        None
    }
}

/// Implementation of M2PO's rules on a device, for batches of plain numbers.
pub trait Weigher: fmt::Debug {
    /// Weighs a batch. The new policy serves as the proximal one.
    ///
    /// # Errors
    /// What the rule refuses, and a device that fails.
    fn weigh(&self, rule: &Rule, tokens: &Tokens<'_, f32>) -> Result<Weighed, NotWeighed>;
}

/// Reason for which a batch of plain numbers was not weighed.
#[derive(Debug)]
pub enum NotWeighed {
    /// The rule refused the batch or its settings; the error names the token or the setting.
    Refused(vintage_losses::Error),
    /// The device failed, or it does not take so many tokens.
    Device(Box<dyn std::error::Error + Send + Sync>),
}

/// CPU alone: the devices of a program that was built without CUDA.
#[derive(Debug, Clone, Copy)]
pub struct CpuOnly;

impl CpuOnly {
    fn require_cpu(device: Device) -> Result<(), vintage_model::Error> {
        match device {
            Device::Cpu => Ok(()),
            Device::Cuda(_) | Device::Emulated => Err(vintage_model::Error::without_cuda(device)),
        }
    }
}

impl Devices for CpuOnly {
    fn open(&self, device: Device, optimizer: AdamW) -> Result<Box<dyn UpdateEngine>> {
        Self::require_cpu(device)?;
        Ok(Box::new(HostEngine::new(optimizer)))
    }

    fn describe(&self, device: Device) -> Result<Option<String>, vintage_model::Error> {
        Self::require_cpu(device)?;
        Ok(None)
    }

    fn weigher(&self, device: Device) -> Result<Box<dyn Weigher>> {
        Self::require_cpu(device)?;
        Ok(Box::new(HostWeigher))
    }
}

/// Rules as a learner on the CPU computes them.
#[derive(Debug)]
struct HostWeigher;

impl Weigher for HostWeigher {
    fn weigh(&self, rule: &Rule, tokens: &Tokens<'_, f32>) -> Result<Weighed, NotWeighed> {
        vintage_losses::weigh(rule, tokens).map_err(NotWeighed::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::{CpuOnly, Device, Devices};
    use crate::adamw::AdamW;

    #[test]
    fn a_build_without_cuda_says_how_to_get_one() {
        for device in [Device::Cuda(0), Device::Emulated] {
            let described = CpuOnly.describe(device).unwrap_err().to_string();
            let opening = format!("opening {device}: ");
            assert!(described.starts_with(&opening), "{described}");
            assert!(described.contains("infra/cuda/build.sh"), "{described}");
            let opened = CpuOnly.open(device, AdamW::default()).err();
            for error in [opened, CpuOnly.weigher(device).err()] {
                let error = error.unwrap().to_string();
                assert!(error.ends_with(&described), "{error}");
            }
        }
        assert!(CpuOnly.open(Device::Cpu, AdamW::default()).is_ok());
        assert_eq!(CpuOnly.describe(Device::Cpu).unwrap(), None);
    }
}
