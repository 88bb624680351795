//! Queries to the NVIDIA driver before candle uses it, because candle's bindings panic if a library
//! is missing.

#![expect(
    unsafe_code,
    reason = "a foreign library: its functions have the C signatures that NVIDIA documents"
)]

use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use libloading::{Library, Symbol};

use crate::description::Gpu;

/// Libraries besides the driver that candle loads when a device is created.
const LIBRARIES: [&str; 2] = ["libcublas", "libcurand"];
/// Attributes of a device (`CUdevice_attribute`): compute capability, major and minor.
const MAJOR: c_int = 75;
const MINOR: c_int = 76;
/// Attribute of a memory pool (`CUmemPool_attribute`): largest number of bytes in use at once.
const USED_MEMORY_HIGH: c_int = 8;

type Problem<T> = Result<T, String>;

struct Driver(Library);

/// NVIDIA driver library. It is never unloaded, because candle uses it too and it must not be
/// initialized twice.
static DRIVER: OnceLock<Problem<Driver>> = OnceLock::new();

impl Driver {
    fn get() -> Problem<&'static Self> {
        DRIVER
            .get_or_init(Self::open)
            .as_ref()
            .map_err(Clone::clone)
    }

    fn open() -> Problem<Self> {
        let open = |name: &str| {
            // SAFETY: loading the driver runs its initializers, which is its purpose.
            unsafe { Library::new(name) }
        };
        let library = open("libcuda.so.1").or_else(|_| open("libcuda.so"));
        let library = library.map_err(|error| {
            let why = error
                .source()
                .map_or_else(|| error.to_string(), ToString::to_string);
            format!(
                "the NVIDIA driver is not installed: {why}; run it on a machine with a GPU and \
                 its driver (in a container, with --gpus all), or train on the CPU with \
                 learner.device = \"cpu\""
            )
        })?;
        let driver = Self(library);
        driver.call(
            "cuInit",
            |init: &Symbol<'_, extern "C" fn(c_uint) -> c_int>| init(0),
        )?;
        Ok(driver)
    }

    /// Calls the driver function `name`; a status other than 0 is an error.
    fn call<F>(&self, name: &str, call: impl FnOnce(&Symbol<'_, F>) -> c_int) -> Problem<()> {
        // SAFETY: the caller gives the signature that the named function has.
        let function = unsafe { self.0.get::<F>(name) };
        let function = function.map_err(|error| format!("the driver has no {name}: {error}"))?;
        match call(&function) {
            0 => Ok(()),
            status => Err(format!(
                "the driver's {name} failed: {}; see whether nvidia-smi works here",
                self.error(status)
            )),
        }
    }

    fn error(&self, status: c_int) -> String {
        type GetErrorString = extern "C" fn(c_int, *mut *const c_char) -> c_int;
        let mut text: *const c_char = std::ptr::null();
        // SAFETY: the signature is that in cuda.h.
        let function = unsafe { self.0.get::<GetErrorString>("cuGetErrorString") };
        match function {
            Ok(function) if function(status, &raw mut text) == 0 && !text.is_null() => {
                // SAFETY: the driver's strings are constants that end in 0.
                let text = unsafe { CStr::from_ptr(text) };
                format!("{} (error {status})", text.to_string_lossy())
            }
            _ => format!("error {status}"),
        }
    }

    fn number(
        &self,
        name: &str,
        call: impl FnOnce(&Symbol<'_, extern "C" fn(*mut c_int) -> c_int>, *mut c_int) -> c_int,
    ) -> Problem<c_int> {
        let mut number = 0;
        self.call(name, |function| call(function, &raw mut number))?;
        Ok(number)
    }

    fn device(&self, number: usize) -> Problem<c_int> {
        let count = self.number("cuDeviceGetCount", |get, count| get(count))?;
        let ordinal = c_int::try_from(number).ok().filter(|&n| n < count);
        let Some(ordinal) = ordinal else {
            return Err(format!(
                "this machine has {count} GPUs, numbered from 0; name one of them, and see \
                 CUDA_VISIBLE_DEVICES"
            ));
        };
        let mut device = 0;
        self.call(
            "cuDeviceGet",
            |get: &Symbol<'_, extern "C" fn(*mut c_int, c_int) -> c_int>| {
                get(&raw mut device, ordinal)
            },
        )?;
        Ok(device)
    }

    fn attribute(&self, device: c_int, attribute: c_int) -> Problem<c_int> {
        type Get = extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
        let mut value = 0;
        self.call("cuDeviceGetAttribute", |get: &Symbol<'_, Get>| {
            get(&raw mut value, attribute, device)
        })?;
        Ok(value)
    }
}

/// The GPU of this number, if all that candle needs is there.
pub(crate) fn gpu(number: usize) -> Problem<Gpu> {
    let driver = Driver::get()?;
    let device = driver.device(number)?;
    let version = driver.number("cuDriverGetVersion", |get, version| get(version))?;
    let mut name = [0 as c_char; 128];
    driver.call(
        "cuDeviceGetName",
        |get: &Symbol<'_, extern "C" fn(*mut c_char, c_int, c_int) -> c_int>| {
            get(name.as_mut_ptr(), name.len() as c_int, device)
        },
    )?;
    let mut bytes = 0_usize;
    driver.call(
        "cuDeviceTotalMem_v2",
        |get: &Symbol<'_, extern "C" fn(*mut usize, c_int) -> c_int>| get(&raw mut bytes, device),
    )?;
    let (major, minor) = (
        driver.attribute(device, MAJOR)?,
        driver.attribute(device, MINOR)?,
    );
    libraries()?;
    // SAFETY: the driver ends the name with 0, within the length it was given.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    Ok(Gpu {
        number,
        name: name.to_string_lossy().into_owned(),
        bytes: bytes as u64,
        capability: format!("{major}.{minor}"),
        driver: format!("{}.{}", version / 1000, version % 1000 / 10),
    })
}

/// Checks that cuBLAS and cuRAND can be loaded, under any of the names that candle's bindings try
/// first.
fn libraries() -> Problem<()> {
    for library in LIBRARIES {
        let names = ["", ".13", ".12", ".11", ".10"];
        let found = names.iter().any(|version| {
            // SAFETY: loading runs the library's initializers, as candle is about to do.
            unsafe { Library::new(format!("{library}.so{version}")) }.is_ok()
        });
        if !found {
            return Err(format!(
                "{library}.so is not found, which CUDA's toolkit or the wheels nvidia-cublas and \
                 nvidia-curand bring; put its folder on LD_LIBRARY_PATH, often \
                 /usr/local/cuda/lib64"
            ));
        }
    }
    Ok(())
}

/// Driver function that gets or sets an attribute of a memory pool.
type PoolAttribute = extern "C" fn(*mut c_void, c_int, *mut c_void) -> c_int;

/// Returns the largest number of bytes this process had in use at once on a GPU, in candle's memory
/// pool.
pub(crate) fn peak_bytes(number: usize) -> Problem<u64> {
    peak(number, "cuMemPoolGetAttribute")
}

/// Resets the peak of memory in use on a GPU.
pub(crate) fn forget_peak(number: usize) -> Problem<u64> {
    peak(number, "cuMemPoolSetAttribute")
}

fn peak(number: usize, function: &str) -> Problem<u64> {
    type GetPool = extern "C" fn(*mut *mut c_void, c_int) -> c_int;
    let driver = Driver::get()?;
    let device = driver.device(number)?;
    let mut pool: *mut c_void = std::ptr::null_mut();
    driver.call("cuDeviceGetDefaultMemPool", |get: &Symbol<'_, GetPool>| {
        get(&raw mut pool, device)
    })?;
    // Setting the attribute to 0 resets the peak.
    let mut bytes = 0_u64;
    driver.call(function, |call: &Symbol<'_, PoolAttribute>| {
        call(pool, USED_MEMORY_HIGH, (&raw mut bytes).cast())
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::gpu;

    /// A GPU is described if there is one; otherwise the error says what is missing.
    #[test]
    fn what_is_there_is_described() {
        match gpu(0) {
            Ok(gpu) => assert!(gpu.bytes > 0 && !gpu.name.is_empty(), "{gpu}"),
            Err(problem) => assert!(
                problem.contains("driver") || problem.contains("LD_LIBRARY_PATH"),
                "{problem}"
            ),
        }
        assert!(gpu(4096).is_err());
    }
}
