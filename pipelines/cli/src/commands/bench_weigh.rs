//! `vintage bench weigh`: measures the time a mask takes, against other ways of making one, in one
//! run.
//!
//! Every size is timed in rounds, each way once per round, so that a busy machine slows all of them
//! alike; medians are reported. One thread is used throughout.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use vintage_m2po::{Tokens, mask_m2};

/// Threshold on M2 of the paper.
const TAU: f64 = 0.04;
/// Peak memory per token in bytes: the batch twice (here and in Python), squares, sorted pairs.
const BYTES_PER_TOKEN: usize = 64;

/// Number of tokens at the cut on which the plain f64 sums of the other ways may differ.
const ROUNDING: usize = 2;

/// Output of `vintage bench weigh`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Distributions from which the tokens are drawn.
    pub(crate) data: &'static str,
    /// Threshold on M2.
    pub(crate) tau: f64,
    /// Reason for which NumPy was not timed, if it was not.
    pub(crate) numpy_missing: Option<String>,
    /// Version of NumPy, if it was timed.
    pub(crate) numpy_version: Option<String>,
    /// Reason for which the sizes end before the one that was asked for, if they do.
    pub(crate) stopped: Option<String>,
    /// Timings, one per size.
    pub(crate) sizes: Vec<Timing>,
}

/// Medians for one size, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Timing {
    /// Tokens in the batch, all valid.
    pub(crate) tokens: usize,
    /// Rounds behind each median.
    pub(crate) rounds: usize,
    /// Tokens masked by vintage; the other ways agree up to rounding (checked).
    pub(crate) masked: u64,
    /// Time of vintage's mask.
    pub(crate) mask_ms: f64,
    /// Time of vintage's mask per token, in nanoseconds.
    pub(crate) mask_ns_per_token: f64,
    /// Time of vintage's mask on a batch in which every trust-region token is over the threshold.
    pub(crate) worst_ms: f64,
    /// Time of sorting all valid tokens by squared log-ratio, as AReaL does, in Rust.
    pub(crate) sort_ms: f64,
    /// Ratio `sort_ms / mask_ms`.
    pub(crate) sort_ratio: f64,
    /// Time of the filter form in NumPy.
    pub(crate) numpy_ms: Option<f64>,
    /// Ratio `numpy_ms / mask_ms`.
    pub(crate) numpy_ratio: Option<f64>,
}

/// Times masks of 1e4, 1e5, … tokens up to `max_tokens`, or as far as memory permits, and writes a
/// table, or one JSON object if `json`.
///
/// # Errors
/// Ways that disagree about the mask, a Python that breaks off, and writing that fails. A missing
/// Python or NumPy is reported and is not an error.
pub(crate) fn run(max_tokens: usize, json: bool, out: &mut impl Write) -> Result<Report> {
    let mut numpy = Numpy::start();
    let mut report = Report {
        data: "log-ratio ~ N(0, 0.05), 2 % N(0, 2); advantage ~ N(0, 1); f32, all valid",
        tau: TAU,
        numpy_missing: numpy.as_ref().err().map(|error| format!("{error:#}")),
        numpy_version: numpy.as_ref().ok().map(|numpy| numpy.version.clone()),
        stopped: None,
        sizes: Vec::new(),
    };
    if !json {
        header(&report, out)?;
    }
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
        let timing = time(tokens, numpy.as_mut().ok())?;
        if !json {
            row(&timing, out)?;
        }
        report.sizes.push(timing);
    }
    if json {
        serde_json::to_writer(&mut *out, &report).context("cannot write the report")?;
        writeln!(out).context("cannot write the report")?;
    } else if let Some(stopped) = &report.stopped {
        writeln!(out, "stopped: {stopped}").context("cannot write the table")?;
    }
    out.flush().context("cannot write the report")?;
    Ok(report)
}

/// Returns 1e4, 1e5, … below `max`, then `max`.
fn sizes(max: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = std::iter::successors(Some(10_000_usize), |n| n.checked_mul(10))
        .take_while(|&n| n < max)
        .collect();
    sizes.extend((max > 0).then_some(max));
    sizes
}

fn header(report: &Report, out: &mut impl Write) -> Result<()> {
    let numpy = match (&report.numpy_version, &report.numpy_missing) {
        (Some(version), _) => format!("numpy {version}"),
        (_, Some(reason)) => format!("not timed ({reason})"),
        _ => String::from("not timed"),
    };
    writeln!(
        out,
        "mask of one optimizer batch, one thread, medians in ms; tau {TAU}\ndata: {}\nnumpy: \
         {numpy}\n{:>11} {:>10} {:>9} {:>10} {:>11} {:>7} {:>11} {:>7} {:>9}",
        report.data,
        "tokens",
        "mask",
        "ns/token",
        "worst",
        "full sort",
        "ratio",
        "numpy",
        "ratio",
        "masked",
    )
    .context("cannot write the table")
}

fn row(timing: &Timing, out: &mut impl Write) -> Result<()> {
    let optional = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| String::from("-"), |value| format!("{value:.digits$}"))
    };
    writeln!(
        out,
        "{:>11} {:>10.3} {:>9.2} {:>10.3} {:>11.3} {:>7.1} {:>11} {:>7} {:>9}",
        timing.tokens,
        timing.mask_ms,
        timing.mask_ns_per_token,
        timing.worst_ms,
        timing.sort_ms,
        timing.sort_ratio,
        optional(timing.numpy_ms, 3),
        optional(timing.numpy_ratio, 1),
        timing.masked,
    )
    .context("cannot write the table")?;
    // The larger sizes take a while: show each as it arrives.
    out.flush().context("cannot write the table")
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
        ensure!(
            differ <= ROUNDING,
            "cannot compare: at {tokens} tokens sorting gives another mask; please report this"
        );
        if let Some(numpy) = numpy.as_deref_mut() {
            let (milliseconds, theirs_masked) = numpy.time()?;
            theirs.push(milliseconds);
            ensure!(
                theirs_masked.abs_diff(masked) <= ROUNDING as u64,
                "cannot compare: at {tokens} tokens numpy masks {theirs_masked} and we {masked}; \
                 please report this"
            );
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
    let mask_ms = median(&mut ours);
    let sort_ms = median(&mut sorted);
    let numpy_ms = (!theirs.is_empty()).then(|| median(&mut theirs));
    Ok(Timing {
        tokens,
        rounds,
        masked,
        mask_ms,
        mask_ns_per_token: mask_ms * 1e6 / tokens as f64,
        worst_ms: median(&mut worst),
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

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

struct Batch {
    new: Vec<f32>,
    behavior: Vec<f32>,
    advantage: Vec<f32>,
    valid: Vec<bool>,
}

impl Batch {
    fn draw(tokens: usize, spread: impl Fn(&mut Rng) -> f64) -> Self {
        let mut rng = Rng(tokens as u64);
        let mut batch = Self {
            new: Vec::with_capacity(tokens),
            behavior: Vec::with_capacity(tokens),
            advantage: Vec::with_capacity(tokens),
            valid: vec![true; tokens],
        };
        for _ in 0..tokens {
            let spread = spread(&mut rng);
            let (log_ratio, advantage) = rng.normals();
            let behavior = rng.uniform().ln();
            batch.behavior.push(behavior as f32);
            batch.new.push((behavior + spread * log_ratio) as f32);
            batch.advantage.push(advantage as f32);
        }
        batch
    }

    fn tokens(&self) -> Tokens<'_> {
        Tokens::new(&self.new, &self.behavior, &self.advantage, &self.valid)
    }
}

/// SplitMix64 generator: the data only has to be the same every time.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a uniform number in (0, 1).
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Returns two independent standard normals (Box and Muller).
    fn normals(&mut self) -> (f64, f64) {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        (radius * cos, radius * sin)
    }
}

/// Applies Algorithm 1 by sorting every valid token by its square, largest first, and dropping from
/// the top until the mean of `T` fits: the shape of AReaL's code, with the paper's rule so that the
/// masks can be compared.
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

impl Batch {
    fn square(&self, index: usize) -> f64 {
        let log_ratio = f64::from(self.new[index]) - f64::from(self.behavior[index]);
        log_ratio * log_ratio
    }

    fn in_trust(&self, index: usize) -> bool {
        let (advantage, up) = (
            self.advantage[index],
            self.new[index] > self.behavior[index],
        );
        (advantage > 0.0 && up) || (advantage < 0.0 && self.new[index] < self.behavior[index])
    }
}

/// Python process that times the filter form in NumPy on request, so that its rounds can be
/// interleaved with ours.
struct Numpy {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

const NUMPY_FILTER: &str = r"
import sys, time
import numpy as np
print(np.__version__, flush=True)
source = sys.stdin.buffer
def read(dtype, n):
    array = np.empty(n, dtype)
    view = memoryview(array).cast('B')
    while view.nbytes:
        got = source.readinto(view)
        if not got:
            sys.exit('the batch ends early')
        view = view[got:]
    return array
def masked(new, behavior, advantage, valid, tau):
    gap = np.subtract(new, behavior, dtype=np.float64)
    trust = valid & (((advantage > 0) & (gap > 0)) | ((advantage < 0) & (gap < 0)))
    square = gap * gap
    over = trust & (square > tau)
    room = tau * (np.count_nonzero(trust) - np.count_nonzero(over)) - square[trust & ~over].sum()
    candidates = np.flatnonzero(over)
    order = np.argsort(square[candidates])
    kept = np.searchsorted(np.cumsum(square[candidates][order] - tau), room, 'right')
    mask = valid.copy()
    mask[candidates[order[kept:]]] = False
    return len(candidates) - kept
for line in source:
    word = line.split()
    if word[0] == b'load':
        n, tau = int(word[1]), float(word[2])
        batch = [read(np.float32, n) for _ in range(3)] + [read(np.bool_, n)]
    else:
        start = time.perf_counter()
        count = masked(*batch, tau)
        print((time.perf_counter() - start) * 1e3, count, flush=True)
";

impl Numpy {
    fn start() -> Result<Self> {
        let mut child = Command::new("python3")
            .args(["-c", NUMPY_FILTER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("python3 cannot be started")?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (requests, answers) = pipes.context("python3 has no pipes")?;
        let mut numpy = Self {
            child,
            requests,
            answers: BufReader::new(answers),
            version: String::new(),
        };
        numpy.version = numpy.answer().context("python3 has no numpy")?;
        Ok(numpy)
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .context("cannot read from python3")?;
        if line.is_empty() {
            bail!("it ended without an answer");
        }
        Ok(line.trim().to_owned())
    }

    fn load(&mut self, batch: &Batch) -> Result<()> {
        let lost = "cannot send the batch to python3";
        writeln!(self.requests, "load {} {TAU}", batch.new.len()).context(lost)?;
        let mut bytes = Vec::with_capacity(1 << 20);
        for floats in [&batch.new, &batch.behavior, &batch.advantage] {
            for part in floats.chunks(1 << 18) {
                bytes.clear();
                bytes.extend(part.iter().flat_map(|float| float.to_ne_bytes()));
                self.requests.write_all(&bytes).context(lost)?;
            }
        }
        for part in batch.valid.chunks(1 << 20) {
            bytes.clear();
            bytes.extend(part.iter().map(|&valid| u8::from(valid)));
            self.requests.write_all(&bytes).context(lost)?;
        }
        self.requests.flush().context(lost)
    }

    /// Times one mask in Python; returns milliseconds and the number of tokens masked.
    fn time(&mut self) -> Result<(f64, u64)> {
        self.requests
            .write_all(b"time\n")
            .and_then(|()| self.requests.flush())
            .context("cannot ask python3")?;
        let answer = self
            .answer()
            .context("python3 broke off (out of memory?)")?;
        let (milliseconds, masked) = answer
            .split_once(' ')
            .with_context(|| format!("python3 answered `{answer}`"))?;
        let unread = || format!("python3 answered `{answer}`");
        Ok((
            milliseconds.parse().with_context(unread)?,
            masked.parse().with_context(unread)?,
        ))
    }
}

impl Drop for Numpy {
    fn drop(&mut self) {
        // It may be in the middle of a batch, waiting for bytes that will not come.
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            tracing::debug!(%error, "python3 could not be ended");
        }
    }
}

/// Returns the available memory in bytes, if the system reports it.
fn available_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests;
