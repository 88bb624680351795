//! Fingerprint of everything besides the plan that bit-exactness depends on.

use vintage_control::Fingerprint;
use vintage_settings::Device;

/// Versions of the crates whose arithmetic the weights depend on, for the CPU; a test compares them
/// with the lock file.
const LIBRARIES: &str = "candle-core 0.11.1, gemm 0.19.0";

/// Returns the device on which plans of this fingerprint were computed; a GPU's number is not known
/// and is 0.
pub(crate) fn device_of(fingerprint: &Fingerprint) -> Device {
    match fingerprint.device.as_str() {
        "cuda" => Device::Cuda(0),
        device if device == Device::Emulated.to_string() => Device::Emulated,
        _ => Device::Cpu,
    }
}

/// Device of the plans that PyTorch computes.
pub const TORCH: &str = "torch";

/// Returns true if an update of this fingerprint that is run again gives equal bits, as the CPU
/// kernels do.
pub(crate) fn is_exact(fingerprint: &Fingerprint) -> bool {
    fingerprint.device != TORCH && device_of(fingerprint) == Device::Cpu
}

/// Returns the fingerprint of updates that PyTorch computes: `libraries` with their versions, on
/// `device`, as PyTorch calls it.
pub fn of_torch(libraries: &str, device: &str) -> Fingerprint {
    Fingerprint {
        libraries: libraries.to_owned(),
        device: TORCH.to_owned(),
        isa: device.to_owned(),
        ..current()
    }
}

pub(crate) fn describe(fingerprint: &Fingerprint) -> String {
    if fingerprint.device == TORCH {
        return format!("PyTorch ({} on {})", fingerprint.libraries, fingerprint.isa);
    }
    match device_of(fingerprint) {
        Device::Cpu => "the CPU".to_owned(),
        Device::Emulated => "a CPU by the operations of a GPU".to_owned(),
        Device::Cuda(_) => format!("a GPU ({})", fingerprint.isa),
    }
}

/// Returns the fingerprint of this build on this machine's CPU.
pub fn current() -> Fingerprint {
    let (isa, caches) = cpu();
    Fingerprint {
        vintage: env!("CARGO_PKG_VERSION").to_owned(),
        libraries: LIBRARIES.to_owned(),
        device: "cpu".to_owned(),
        isa,
        caches,
    }
}

/// Returns the instruction sets that gemm and the kernels choose from, and the caches that gemm
/// blocks for.
#[cfg(target_arch = "x86_64")]
fn cpu() -> (String, String) {
    let isa = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("bmi2", std::arch::is_x86_feature_detected!("bmi2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512bw", std::arch::is_x86_feature_detected!("avx512bw")),
        ("avx512dq", std::arch::is_x86_feature_detected!("avx512dq")),
        ("avx512vl", std::arch::is_x86_feature_detected!("avx512vl")),
    ];
    let isa: Vec<_> = isa
        .iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| *name)
        .collect();
    let caches: Vec<_> = raw_cpuid::CpuId::new()
        .get_cache_parameters()
        .into_iter()
        .flatten()
        .filter(|cache| cache.cache_type() != raw_cpuid::CacheType::Instruction)
        .map(|cache| {
            let bytes = cache.associativity()
                * cache.physical_line_partitions()
                * cache.coherency_line_size()
                * cache.sets();
            format!("L{} {} KiB", cache.level(), bytes / 1024)
        })
        .collect();
    (format!("x86_64 {}", isa.join(" ")), caches.join(", "))
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu() -> (String, String) {
    (std::env::consts::ARCH.to_owned(), String::new())
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
