//! `vintage bench weigh`: the time a mask takes, against other ways of making one.

use std::io::Write;

use anyhow::{Context as _, Result};
use vintage_bench::weigh::{Timing, WeighReport, measure};

/// Times masks up to `max_tokens` and writes a table, or one JSON object if `json`.
pub(crate) fn run(max_tokens: usize, json: bool, out: &mut impl Write) -> Result<WeighReport> {
    let report = measure(max_tokens, |report| match report.sizes.last() {
        _ if json => Ok(()),
        None => header(report, out),
        Some(timing) => row(timing, out),
    })?;
    if json {
        serde_json::to_writer(&mut *out, &report).context("cannot write the report")?;
        writeln!(out).context("cannot write the report")?;
    } else if let Some(stopped) = &report.stopped {
        writeln!(out, "stopped: {stopped}").context("cannot write the table")?;
    }
    out.flush().context("cannot write the report")?;
    Ok(report)
}

fn header(report: &WeighReport, out: &mut impl Write) -> Result<()> {
    let numpy = match (&report.numpy_version, &report.numpy_missing) {
        (Some(version), _) => format!("numpy {version}"),
        (_, Some(reason)) => format!("not timed ({reason})"),
        _ => String::from("not timed"),
    };
    writeln!(
        out,
        "mask of one optimizer batch, one thread, medians in ms; tau {}\ndata: {}\nnumpy: \
         {numpy}\n{:>11} {:>10} {:>9} {:>10} {:>11} {:>7} {:>11} {:>7} {:>9}",
        report.tau,
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
    // The larger sizes take a while: show each as it comes.
    out.flush().context("cannot write the table")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ways agree about the mask (`run` fails where they do not), and the report is whole.
    #[test]
    fn reports_every_size() -> Result<()> {
        let mut out = Vec::new();
        let report = run(20_000, true, &mut out)?;
        let printed: serde_json::Value = serde_json::from_slice(&out)?;
        assert_eq!(printed["sizes"].as_array().map(Vec::len), Some(2));
        assert_eq!(printed["sizes"][1]["tokens"], 20_000);
        assert!(
            report
                .sizes
                .iter()
                .all(|size| size.masked > 0 && size.mask_ms > 0.0)
        );
        let mut table = Vec::new();
        run(100, false, &mut table)?;
        assert!(
            String::from_utf8(table)?
                .lines()
                .last()
                .unwrap_or("")
                .trim()
                .starts_with("100 ")
        );
        Ok(())
    }
}
