//! `vintage bench codec`: measures encoding and decoding messages on one core, against copying
//! their bytes.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use vintage_flow::synthetic::Synthetic;
use vintage_trajectory::{Rows, encode};

use super::Context;
use crate::{
    exit::Usage,
    output::{bytes, columns},
};

/// Results of the benchmark; rates are in gigabytes (1e9 bytes) of payload per second.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Measured {
    rows: u16,
    tokens_per_row: usize,
    payload_bytes: usize,
    encode_gb_per_s: f64,
    decode_gb_per_s: f64,
    /// Rate of decoding and reading every token and log-prob once.
    decode_and_read_gb_per_s: f64,
    memcpy_gb_per_s: f64,
    encode_us: f64,
    decode_us: f64,
    memcpy_us: f64,
}

/// Measures messages of `rows` rows with `tokens` completion tokens each; each measurement takes
/// `seconds`.
pub(crate) fn codec(rows: u16, tokens: usize, seconds: f64, context: &Context) -> Result<()> {
    if rows == 0 || tokens == 0 || !(seconds > 0.0 && seconds <= 60.0) {
        let what = "rows and tokens must be at least 1, seconds above 0 and at most 60";
        return Err(Usage::new(what).into());
    }
    let group = Synthetic::new(1, rows, tokens).group(0);
    let payload = encode(&group).context("cannot encode the made-up group")?;
    let decoded = Rows::decode(&payload).context("cannot decode what was just encoded")?;
    ensure!(
        decoded.to_trajectories() == group,
        "decoding gave other rows than were encoded"
    );
    let budget = Duration::from_secs_f64(seconds);
    // Encoding and decoding were checked above: an error here would be a bug, which `black_box`
    // keeps from being optimized away.
    let encode_s = median_seconds(budget, || drop(black_box(encode(black_box(&group)))));
    let decode_s = median_seconds(budget, || {
        drop(black_box(Rows::decode(black_box(&payload))));
    });
    let read_s = median_seconds(budget, || {
        if let Ok(rows) = Rows::decode(black_box(&payload)) {
            black_box(read(&rows));
        }
    });
    let mut copy = vec![0; payload.len()];
    let memcpy_s = median_seconds(budget, || {
        copy.copy_from_slice(black_box(&payload));
        black_box(&copy);
    });
    let rate = |seconds: f64| payload.len() as f64 / seconds / 1e9;
    let measured = Measured {
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
    };
    context.output.print(&measured, text)
}

fn text(measured: &Measured) -> String {
    let line = |rate: f64, us: f64| format!("{rate:6.2} GB/s  {us:9.1} µs a message");
    let Measured {
        rows,
        tokens_per_row,
        ..
    } = measured;
    let size = bytes(measured.payload_bytes as u64);
    format!("{rows} rows of {tokens_per_row} tokens, {size}, one core, median\n")
        + &columns([
            ("encode", line(measured.encode_gb_per_s, measured.encode_us)),
            ("decode", line(measured.decode_gb_per_s, measured.decode_us)),
            ("decode, read", {
                let us = measured.payload_bytes as f64 / measured.decode_and_read_gb_per_s / 1e3;
                line(measured.decode_and_read_gb_per_s, us)
            }),
            ("memcpy", line(measured.memcpy_gb_per_s, measured.memcpy_us)),
        ])
}

/// Measures the median seconds of one call, over batches of calls that last about a millisecond
/// each.
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
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Reads the values that training reads.
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
