use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Device that computes updates: `cpu`, `cuda` or `cuda:N`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The CPU, with the kernels of `infra/model`.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
    /// The GPU's operations on candle's CPU device, for tests of the GPU code on a machine
    /// without one. No setting names it.
    Emulated,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.split_once(':') {
            None if name == "cpu" => Ok(Self::Cpu),
            None if name == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => number
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("`{number}` is not a GPU's number; write it as in cuda:0")),
            _ => Err(format!(
                "there is no device `{name}`; it is one of cpu, cuda, cuda:N"
            )),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Emulated => f.write_str("composed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    fn devices_read_back() {
        for (name, device) in [
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:3", Device::Cuda(3)),
        ] {
            assert_eq!(name.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for (name, says) in [
            ("gpu", "one of cpu, cuda, cuda:N"),
            ("cuda:", "not a GPU's number"),
            ("cuda:-1", "not a GPU's number"),
            ("cpu:0", "one of cpu"),
            ("composed", "one of cpu"),
        ] {
            let error = name.parse::<Device>().unwrap_err();
            assert!(error.contains(says), "{name}: {error}");
        }
    }
}
