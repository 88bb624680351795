use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Device on which an update is computed, as settings name it: `cpu`, `cuda` or `cuda:N`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// CPU, with the kernels of this crate.
    #[default]
    Cpu,
    /// NVIDIA GPU with this number, with candle's tensor operations.
    Cuda(usize),
    /// CPU with the tensor operations of a GPU, for tests of that code on machines without a GPU.
    /// No setting names it.
    Composed,
}

/// Description of an NVIDIA GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Number of the GPU, from 0.
    pub number: usize,
    /// Name of the GPU, as given by the driver.
    pub name: String,
    /// Memory of the GPU in bytes.
    pub bytes: u64,
    /// Compute capability, such as `9.0`.
    pub capability: String,
    /// Newest CUDA version that the driver supports, such as `13.0`.
    pub driver: String,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.split_once(':') {
            None if name == "cpu" => Ok(Self::Cpu),
            None if name == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => number
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("`{number}` is no number of a card; name it as in cuda:0")),
            _ => Err(format!(
                "there is no device `{name}`; it is one of cpu, cuda, cuda:N"
            )),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Composed => f.write_str("composed"),
        }
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            name,
            capability,
            driver,
            ..
        } = self;
        let gib = self.bytes as f64 / f64::from(1 << 30);
        write!(
            f,
            "cuda:{number}, {name}, {gib:.0} GiB, compute capability {capability}, driver for CUDA {driver}"
        )
    }
}

impl Place {
    /// Opens the device, after checks that candle does not make itself. Returns `None` for
    /// [`Place::Cpu`], whose kernels need no device.
    ///
    /// # Errors
    /// The build lacks the feature `cuda`, or the driver, the GPU or a CUDA library is missing; the
    /// error says which.
    pub fn open(self) -> Result<Option<Device>> {
        match self {
            Self::Cpu => Ok(None),
            Self::Composed => Ok(Some(Device::Cpu)),
            Self::Cuda(number) => {
                self.card()?;
                // `new_cuda` would use another stream on every thread, and updates do not stay on
                // one thread.
                Device::new_cuda_with_stream(number)
                    .map(Some)
                    .map_err(|error| self.refuse(&error.to_string()))
            }
        }
    }

    /// Returns the description of the GPU; `None` if the place is a CPU.
    ///
    /// # Errors
    /// The same errors as [`Place::open`].
    pub fn card(self) -> Result<Option<Card>> {
        match self {
            Self::Cpu | Self::Composed => Ok(None),
            Self::Cuda(number) => self.look(number).map(Some),
        }
    }

    /// Returns the largest number of bytes that this process had in use at once on the GPU, since
    /// its start or the last [`Place::forget_peak`]. `None` without a GPU.
    pub fn peak_bytes(self) -> Option<u64> {
        #[cfg(feature = "cuda")]
        if let Self::Cuda(number) = self {
            return super::driver::peak_bytes(number).ok();
        }
        None
    }

    /// Resets the peak that [`Place::peak_bytes`] returns.
    pub fn forget_peak(self) {
        #[cfg(feature = "cuda")]
        if let Self::Cuda(number) = self {
            // If the reset fails, the peak is that of the whole process.
            let _not_there = super::driver::forget_peak(number);
        }
    }

    #[cfg(feature = "cuda")]
    fn look(self, number: usize) -> Result<Card> {
        super::driver::card(number).map_err(|problem| self.refuse(&problem))
    }

    #[cfg(not(feature = "cuda"))]
    fn look(self, _: usize) -> Result<Card> {
        Err(self.refuse(
            "this program was built without CUDA; build it with infra/cuda/build.sh, or with \
             `cargo build --release --features vintage-cli/cuda` where a CUDA toolkit is installed, or train \
             on the CPU with learner.device = \"cpu\"",
        ))
    }

    fn refuse(self, problem: &str) -> Error {
        Error::Device {
            place: self.to_string(),
            problem: problem.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn places_read_back() {
        for (name, place) in [
            ("cpu", Place::Cpu),
            ("cuda", Place::Cuda(0)),
            ("cuda:3", Place::Cuda(3)),
        ] {
            assert_eq!(name.parse(), Ok(place));
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for (name, says) in [
            ("gpu", "one of cpu, cuda, cuda:N"),
            ("cuda:", "no number"),
            ("cuda:-1", "no number"),
            ("cpu:0", "one of cpu"),
            ("composed", "one of cpu"),
        ] {
            let error = name.parse::<Place>().unwrap_err();
            assert!(error.contains(says), "{name}: {error}");
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_build_without_cuda_says_how_to_get_one() {
        let error = Place::Cuda(0).open().unwrap_err().to_string();
        assert!(error.starts_with("opening cuda:0: "), "{error}");
        assert!(error.contains("infra/cuda/build.sh"), "{error}");
        assert!(Place::Cpu.open().unwrap().is_none());
    }
}
