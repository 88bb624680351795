//! Mask computed by NumPy in a Python child process.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::batch::{Batch, TAU};
use crate::error::{Error, Result, because};

fn failed(what: &str) -> Error {
    Error::Failed(what.to_owned())
}

/// Python process that times the mask's filter form in NumPy on request, so that its runs can be
/// interleaved with ours.
pub(super) struct Numpy {
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
    pub(super) fn start() -> Result<Self> {
        let mut child = Command::new("python3")
            .args(["-c", NUMPY_FILTER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(because("python3 cannot be started"))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (requests, answers) = pipes.ok_or_else(|| failed("python3 has no pipes"))?;
        let mut numpy = Self {
            child,
            requests,
            answers: BufReader::new(answers),
            version: String::new(),
        };
        numpy.version = numpy.answer().map_err(because("python3 has no numpy"))?;
        Ok(numpy)
    }

    /// Returns the version of NumPy.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .map_err(because("cannot read from python3"))?;
        if line.is_empty() {
            return Err(failed("it ended without an answer"));
        }
        Ok(line.trim().to_owned())
    }

    pub(super) fn load(&mut self, batch: &Batch) -> Result<()> {
        let lost = "cannot send the batch to python3";
        writeln!(self.requests, "load {} {TAU}", batch.new.len()).map_err(because(lost))?;
        let mut bytes = Vec::with_capacity(1 << 20);
        for floats in [&batch.new, &batch.behavior, &batch.advantage] {
            for part in floats.chunks(1 << 18) {
                bytes.clear();
                bytes.extend(part.iter().flat_map(|float| float.to_ne_bytes()));
                self.requests.write_all(&bytes).map_err(because(lost))?;
            }
        }
        for part in batch.valid.chunks(1 << 20) {
            bytes.clear();
            bytes.extend(part.iter().map(|&valid| u8::from(valid)));
            self.requests.write_all(&bytes).map_err(because(lost))?;
        }
        self.requests.flush().map_err(because(lost))
    }

    /// Computes one mask; returns the milliseconds it took and the number of masked tokens.
    pub(super) fn time(&mut self) -> Result<(f64, u64)> {
        self.requests
            .write_all(b"time\n")
            .and_then(|()| self.requests.flush())
            .map_err(because("cannot ask python3"))?;
        let answer = self
            .answer()
            .map_err(because("python3 broke off (out of memory?)"))?;
        let (milliseconds, masked) = answer
            .split_once(' ')
            .ok_or_else(|| failed(&format!("python3 answered `{answer}`")))?;
        let unread = || format!("python3 answered `{answer}`");
        Ok((
            milliseconds.parse().map_err(because(unread()))?,
            masked.parse().map_err(because(unread()))?,
        ))
    }
}

impl Drop for Numpy {
    fn drop(&mut self) {
        // Python may be in the middle of a batch, waiting for bytes that will not arrive.
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            tracing::debug!(%error, "python3 could not be ended");
        }
    }
}
