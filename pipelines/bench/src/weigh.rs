//! Benchmark of M2PO's mask (`vintage bench weigh`), against a full sort and against NumPy.
//!
//! Every batch size is timed in rounds, and every way runs once per round, so that other load on
//! the machine slows all of them alike. Medians are reported. All ways use one thread.

mod batch;
mod numpy;

use std::time::Instant;

use serde::Serialize;
use vintage_losses::mask_m2;

use self::{
    batch::{Batch, TAU},
    numpy::Numpy,
};
use crate::{
    error::{Error, Result},
    median::median,
    used::available_memory,
};

/// Peak memory per token, in bytes: the batch twice (here and in Python), squares, sorted pairs.
const BYTES_PER_TOKEN: usize = 64;

/// Maximum number of tokens by which another way's mask may differ, because it uses plain f64 sums.
const ROUNDING: usize = 2;

/// Result of the benchmark, as `vintage bench weigh` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeighReport {
    /// Distributions from which the tokens are drawn.
    pub data: &'static str,
    /// Budget τ of the mask.
    pub tau: f64,
    /// Reason for which NumPy was not timed; `None` if it was.
    pub numpy_missing: Option<String>,
    /// Version of NumPy; `None` if it was not timed.
    pub numpy_version: Option<String>,
    /// Reason for which larger sizes were not timed; `None` if all were.
    pub stopped: Option<String>,
    /// Timings by size, ascending.
    pub sizes: Vec<Timing>,
}

/// Timings of one batch size: medians over the rounds, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timing {
    /// Number of tokens in the batch, all of them valid.
    pub tokens: usize,
    /// Number of rounds.
    pub rounds: usize,
    /// Number of tokens that our mask drops. The other ways agree up to rounding, which is checked.
    pub masked: u64,
    /// Time of our mask.
    pub mask_ms: f64,
    /// Time of our mask per token, in nanoseconds.
    pub mask_ns_per_token: f64,
    /// Time of our mask on a worst-case batch, whose log-ratios are drawn from N(0, 2).
    pub worst_ms: f64,
    /// Time to sort all valid tokens by squared log-ratio, as AReaL does, in Rust.
    pub sort_ms: f64,
    /// Ratio `sort_ms / mask_ms`.
    pub sort_ratio: f64,
    /// Time of the mask's filter form in NumPy; `None` if NumPy was not timed.
    pub numpy_ms: Option<f64>,
    /// Ratio `numpy_ms / mask_ms`; `None` if NumPy was not timed.
    pub numpy_ratio: Option<f64>,
}

/// Times masks of 1e4, 1e5, … tokens up to `max_tokens`, or as far as the available memory allows.
/// Calls `seen` with the report so far before the first size and after each, because the larger
/// sizes take a while.
///
/// # Errors
/// Ways that disagree about the mask, a Python that ends early, or an error of `seen`. A missing
/// Python or NumPy is reported in [`WeighReport::numpy_missing`] and is not an error.
pub fn measure<E: From<Error>>(
    max_tokens: usize,
    mut seen: impl FnMut(&WeighReport) -> Result<(), E>,
) -> Result<WeighReport, E> {
    let mut numpy = Numpy::start();
    let mut report = WeighReport {
        data: "log-ratio ~ N(0, 0.05), 2 % N(0, 2); advantage ~ N(0, 1); f32, all valid",
        tau: TAU,
        numpy_missing: numpy.as_ref().err().map(chain),
        numpy_version: numpy.as_ref().ok().map(|numpy| numpy.version().to_owned()),
        stopped: None,
        sizes: Vec::new(),
    };
    seen(&report)?;
    let available = available_memory();
    for tokens in sizes(max_tokens) {
        if let Some(available) = available
            && tokens.saturating_mul(BYTES_PER_TOKEN) > available
        {
            report.stopped = Some(format!(
                "{tokens} tokens need {} MiB and {} MiB are available",
                (tokens * BYTES_PER_TOKEN) >> 20,
                available >> 20
            ));
            break;
        }
        report.sizes.push(time(tokens, numpy.as_mut().ok())?);
        seen(&report)?;
    }
    Ok(report)
}

/// Formats an error and its causes on one line.
fn chain(error: &Error) -> String {
    let first: &dyn std::error::Error = error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Returns the sizes 1e4, 1e5, … below `max`, then `max` itself.
fn sizes(max: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = std::iter::successors(Some(10_000_usize), |n| n.checked_mul(10))
        .take_while(|&n| n < max)
        .collect();
    sizes.extend((max > 0).then_some(max));
    sizes
}

fn time(tokens: usize, mut numpy: Option<&mut Numpy>) -> Result<Timing> {
    let rounds = match tokens {
        0..=1_000_000 => 21,
        1_000_001..=10_000_000 => 7,
        _ => 3,
    };
    let batch = Batch::draw(tokens, |rng| if rng.below(50) == 0 { 2.0 } else { 0.05 });
    if let Some(numpy) = numpy.as_deref_mut() {
        numpy.load(&batch)?;
    }
    let (mut ours, mut sorted, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let mut masked = 0;
    for _ in 0..rounds {
        let (milliseconds, mask) = clock(|| mask_m2(&batch.tokens(), TAU));
        let mask = mask?;
        ours.push(milliseconds);
        masked = mask.n_masked;
        let (milliseconds, by_sorting) = clock(|| full_sort(&batch));
        sorted.push(milliseconds);
        let differ = by_sorting
            .iter()
            .zip(&mask.mask)
            .filter(|(a, b)| a != b)
            .count();
        if differ > ROUNDING {
            return Err(Error::Failed(format!(
                "cannot compare: at {tokens} tokens sorting gives another mask; please report this"
            )));
        }
        if let Some(numpy) = numpy.as_deref_mut() {
            let (milliseconds, theirs_masked) = numpy.time()?;
            theirs.push(milliseconds);
            if theirs_masked.abs_diff(masked) > ROUNDING as u64 {
                return Err(Error::Failed(format!(
                    "cannot compare: at {tokens} tokens numpy masks {theirs_masked} and we \
                     {masked}; please report this"
                )));
            }
        }
    }
    drop(batch);
    let crowded = Batch::draw(tokens, |_| 2.0);
    let mut worst = Vec::new();
    for _ in 0..rounds {
        let (milliseconds, mask) = clock(|| mask_m2(&crowded.tokens(), TAU));
        mask?;
        worst.push(milliseconds);
    }
    let mask_ms = median(ours);
    let sort_ms = median(sorted);
    let numpy_ms = (!theirs.is_empty()).then(|| median(theirs));
    Ok(Timing {
        tokens,
        rounds,
        masked,
        mask_ms,
        mask_ns_per_token: mask_ms * 1e6 / tokens as f64,
        worst_ms: median(worst),
        sort_ms,
        sort_ratio: sort_ms / mask_ms,
        numpy_ms,
        numpy_ratio: numpy_ms.map(|numpy| numpy / mask_ms),
    })
}

fn clock<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64() * 1e3, result)
}

/// Computes Algorithm 1's mask by sorting every valid token by its squared log-ratio, largest
/// first, and dropping from the top until the mean over `T` is within the budget. AReaL's code has
/// this form; the rule is the paper's, so that the masks can be compared.
fn full_sort(batch: &Batch) -> Vec<bool> {
    let mut order: Vec<(f64, u32)> = Vec::with_capacity(batch.new.len());
    let mut sum = 0.0;
    let mut count = 0_u32;
    for (index, &valid) in batch.valid.iter().enumerate() {
        if valid {
            let square = batch.square(index);
            order.push((square, index as u32));
            if batch.in_trust(index) {
                sum += square;
                count += 1;
            }
        }
    }
    order.sort_unstable_by(|(a, i), (b, j)| b.total_cmp(a).then(i.cmp(j)));
    let mut mask = batch.valid.clone();
    for (square, index) in order {
        if sum <= TAU * f64::from(count) {
            break;
        }
        if batch.in_trust(index as usize) {
            mask[index as usize] = false;
            sum -= square;
            count -= 1;
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::sizes;

    #[test]
    fn sizes_grow_by_ten_and_end_at_the_one_asked_for() {
        assert_eq!(sizes(0), [0_usize; 0]);
        assert_eq!(sizes(5), [5]);
        assert_eq!(sizes(10_000), [10_000]);
        assert_eq!(sizes(2_000_000), [10_000, 100_000, 1_000_000, 2_000_000]);
    }
}
