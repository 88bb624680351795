use std::fmt;

/// NVIDIA GPU, as its driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Number, as in `cuda:0`.
    pub number: usize,
    /// Name that the driver gives it.
    pub name: String,
    /// Bytes of memory.
    pub bytes: u64,
    /// Compute capability, such as `9.0`.
    pub capability: String,
    /// Newest CUDA version that the driver supports, such as `13.0`.
    pub driver: String,
}

impl fmt::Display for Gpu {
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
