//! `vintage bench codec`: messages encoded and decoded on one core, against copying their bytes.

use anyhow::Result;
use vintage_bench::codec::{Measured, measure};

use crate::{
    commands::Context,
    exit::Usage,
    output::{bytes, columns},
};

/// Measures messages of `rows` rows with `tokens` completion tokens each; each measurement takes
/// `seconds`.
pub(crate) fn codec(rows: u16, tokens: usize, seconds: f64, context: &Context) -> Result<()> {
    if rows == 0 || tokens == 0 || !(seconds > 0.0 && seconds <= 60.0) {
        let what = "rows and tokens must be at least 1, seconds above 0 and at most 60";
        return Err(Usage::new(what).into());
    }
    context.output.print(&measure(rows, tokens, seconds)?, text)
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
