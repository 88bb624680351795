//! CPU time and memory of this process, and available memory of the machine, from Linux's `/proc`.

use std::time::Duration;

use crate::error::{Error, Result, because};

/// Returns the CPU time of all threads of this process so far, user and system, in seconds. The
/// kernel counts in ticks of 10 ms.
pub(crate) fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")
        .map_err(because("cannot read this process's CPU time"))?;
    // The fields follow the name, which is in brackets and may hold any character.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    Ok(ticks
        .map(|ticks| ticks.parse::<f64>().unwrap_or_default() / 100.0)
        .sum())
}

/// Returns the CPU time of this thread so far; `None` if Linux does not tell. The kernel brings it up to
/// date at every tick of its clock, at most 10 ms apart.
pub(crate) fn thread_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// Returns the peak memory of this process so far, in MB (1e6 bytes).
pub(crate) fn peak_rss_mb() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(because("cannot read this process's memory"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    let kib = kib.ok_or_else(|| Error::Failed("the kernel tells no peak of memory".to_owned()))?;
    Ok(kib * 1024.0 / 1e6)
}

/// Returns the memory that the machine has available, in bytes; `None` if Linux does not tell.
pub(crate) fn available_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns the number of processes that ran or waited to run, over the last minute; 0 if Linux does
/// not tell.
pub(crate) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|load| load.parse().ok()).unwrap_or_default()
}

/// Returns the processor's name, with the widest of its vector instructions; `unknown` if Linux does
/// not tell.
pub(crate) fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let name = field("model name").unwrap_or_else(|| "unknown".to_owned());
    let flags = field("flags").unwrap_or_default();
    let widest = ["avx512f", "avx2"]
        .into_iter()
        .find(|&wanted| flags.split_whitespace().any(|flag| flag == wanted));
    match widest {
        Some(widest) => format!("{name} ({widest})"),
        None => name,
    }
}
