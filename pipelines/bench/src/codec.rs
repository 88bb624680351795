//! Benchmark of the message format (`vintage bench codec`): encodes and decodes messages on one
//! core, against copying their bytes.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use serde::Serialize;
use vintage_trajectory::{Rows, encode};

use crate::{
    error::{Error, Result, because},
    median::median,
    synthetic::Synthetic,
};

/// Results of the benchmark; rates are in gigabytes (1e9 bytes) of payload per second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Number of rows in the message.
    pub rows: u16,
    /// Number of completion tokens in a row.
    pub tokens_per_row: usize,
    /// Payload of the message, in bytes.
    pub payload_bytes: usize,
    /// Rate of encoding.
    pub encode_gb_per_s: f64,
    /// Rate of decoding in place, as readers of the log do.
    pub decode_gb_per_s: f64,
    /// Rate of decoding and then reading every token and log-prob once.
    pub decode_and_read_gb_per_s: f64,
    /// Rate of copying.
    pub memcpy_gb_per_s: f64,
    /// Time to encode the message, in microseconds.
    pub encode_us: f64,
    /// Time to decode the message, in microseconds.
    pub decode_us: f64,
    /// Time to copy the message, in microseconds.
    pub memcpy_us: f64,
}

/// Measures a message of `rows` rows with `tokens` completion tokens each, for `seconds` per
/// measurement. All three must be above 0.
///
/// # Errors
/// A message that cannot be encoded or decoded, or that is not the same afterwards.
pub fn measure(rows: u16, tokens: usize, seconds: f64) -> Result<Measured> {
    let group = Synthetic::new(1, rows, tokens).group(0);
    let payload = encode(&group).map_err(because("cannot encode the made-up group"))?;
    let decoded =
        Rows::sharing(&payload).map_err(because("cannot decode what was just encoded"))?;
    if decoded.to_trajectories() != group {
        let what = "decoding gave other rows than were encoded";
        return Err(Error::Failed(what.to_owned()));
    }
    let budget = Duration::from_secs_f64(seconds);
    // Encoding and decoding were checked above, so errors are ignored here. `black_box` keeps the
    // calls from being optimized away.
    let encode_s = median_seconds(budget, || drop(black_box(encode(black_box(&group)))));
    let decode_s = median_seconds(budget, || {
        drop(black_box(Rows::sharing(black_box(&payload))));
    });
    let read_s = median_seconds(budget, || {
        if let Ok(rows) = Rows::sharing(black_box(&payload)) {
            black_box(read(&rows));
        }
    });
    let mut copy = vec![0; payload.len()];
    let memcpy_s = median_seconds(budget, || {
        copy.copy_from_slice(black_box(&payload));
        black_box(&copy);
    });
    let rate = |seconds: f64| payload.len() as f64 / seconds / 1e9;
    Ok(Measured {
        rows,
        tokens_per_row: tokens,
        payload_bytes: payload.len(),
        encode_gb_per_s: rate(encode_s),
        decode_gb_per_s: rate(decode_s),
        decode_and_read_gb_per_s: rate(read_s),
        memcpy_gb_per_s: rate(memcpy_s),
        encode_us: 1e6 * encode_s,
        decode_us: 1e6 * decode_s,
        memcpy_us: 1e6 * memcpy_s,
    })
}

/// Returns the median seconds per call, over batches of calls that last about a millisecond each.
fn median_seconds(budget: Duration, mut call: impl FnMut()) -> f64 {
    call();
    let once = Instant::now();
    call();
    let calls = (1e-3 / once.elapsed().as_secs_f64().max(1e-9))
        .ceil()
        .clamp(1.0, 1e6) as u32;
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < budget || times.len() < 3 {
        let batch = Instant::now();
        for _ in 0..calls {
            call();
        }
        times.push(batch.elapsed().as_secs_f64() / f64::from(calls));
    }
    median(times)
}

/// Sums the values that training reads: every completion token and log-prob.
fn read(rows: &Rows) -> f64 {
    (0..rows.len())
        .map(|row| {
            let tokens: i64 = rows
                .completion_tokens(row)
                .iter()
                .map(|token| i64::from(*token))
                .sum();
            let logprobs: f32 = rows.behavior_logprobs(row).iter().sum();
            tokens as f64 + f64::from(logprobs)
        })
        .sum()
}
