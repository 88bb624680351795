//! `vintage weigh`: M2PO on plain numbers, one JSON case per line in, one JSON outcome per line
//! out.

mod case;
mod device;
#[cfg(test)]
mod oracle;

use std::io::{BufRead, Write};

use anyhow::{Context, Result};
use serde::Serialize;
use vintage_learner::Weigher;

use self::{
    case::{Case, CaseResult},
    device::WeighedCase,
};
use crate::{args::Variant, exit::Usage};

/// Counts of a run of `weigh`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Weighed {
    /// Cases read.
    pub(crate) cases: u64,
    /// Cases answered with an `error`: a non-finite log-prob on a valid token, slices of unlike
    /// lengths, or for `fork` a batch for which the released code has no result.
    pub(crate) refused: u64,
}

/// Weighs every case of `input` (JSON lines; blank lines are skipped) and writes one JSON line each
/// to `out`, in order. Floats have all digits needed to read them back exactly.
///
/// # Errors
/// A line that is not a case (named by number; the lines before it are answered), no case at all,
/// and reading or writing that fails.
pub(crate) fn run(input: impl BufRead, out: &mut impl Write, variant: Variant) -> Result<Weighed> {
    let mut weighed = Weighed::default();
    each_case(input, out, |case| {
        let outcome = case.weigh(variant);
        weighed.cases += 1;
        weighed.refused += u64::from(matches!(outcome, CaseResult::Refused { .. }));
        outcome
    })?;
    Ok(weighed)
}

/// Weighs every case like [`run`], but on a device, and compares with the reference. Returns the
/// number of cases that differ.
pub(crate) fn compare(
    input: impl BufRead,
    out: &mut impl Write,
    weigher: &dyn Weigher,
) -> Result<u64> {
    let mut differ = 0;
    each_case(input, out, |case| {
        let weighed = WeighedCase::of(case, weigher);
        differ += u64::from(weighed.differs.is_some());
        weighed
    })?;
    Ok(differ)
}

fn each_case<T: Serialize>(
    input: impl BufRead,
    out: &mut impl Write,
    mut weigh: impl FnMut(&Case) -> T,
) -> Result<()> {
    let mut cases = 0_u64;
    for (index, line) in input.lines().enumerate() {
        let number = index + 1;
        let line = line.with_context(|| format!("cannot read line {number} of the cases"))?;
        if line.trim().is_empty() {
            continue;
        }
        let case: Case = serde_json::from_str(&line).map_err(|error| {
            // The lines before it are answered.
            let _what_was_heard = out.flush();
            Usage::new(format!(
                "cannot weigh line {number}: it is not a case ({error}); a case is one JSON object \
                 with id, threshold, logprob_new, logprob_behav, advantages and loss_mask (write \
                 NaN as null)"
            ))
        })?;
        cases += 1;
        serde_json::to_writer(&mut *out, &weigh(&case))
            .with_context(|| format!("cannot write the outcome of line {number}"))?;
        out.write_all(b"\n")
            .with_context(|| format!("cannot write the outcome of line {number}"))?;
    }
    out.flush().context("cannot write the outcomes")?;
    if cases == 0 {
        return Err(
            Usage::new("there is no case to weigh: the input has no line but blank ones")
                .hint("a case is one JSON object a line; `vintage weigh --help` shows one")
                .into(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vintage_learner::{CpuOnly, Devices as _};
    use vintage_learner_gpu::WithGpus;
    use vintage_settings::Device;

    use super::*;

    const CASE: &str = r#"{"id":"a","shape":[1,3],"threshold":0.04,"logprob_new":[-1.875,-1.0,null],"logprob_behav":[-2.0,-2.0,1],"advantages":[1,1,1],"loss_mask":[1,true,0]}"#;

    fn weigh(input: &str, variant: Variant) -> Result<(Weighed, String)> {
        let mut out = Vec::new();
        let weighed = run(input.as_bytes(), &mut out, variant)?;
        Ok((weighed, String::from_utf8(out)?))
    }

    #[test]
    fn answers_line_by_line() -> Result<()> {
        let input = format!("{CASE}\n\n{}\n", CASE.replace("null],", "-1.0],"));
        let (weighed, out) = weigh(&input, Variant::Paper)?;
        assert_eq!((weighed.cases, weighed.refused), (2, 0));
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], lines[1], "what padding holds does not matter");
        let value: serde_json::Value = serde_json::from_str(lines[0])?;
        let keys: Vec<&str> = value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| &**key)
            .collect();
        assert_eq!(keys.len(), 10);
        assert_eq!(value["mask"], serde_json::json!([1, 0, 0]));
        assert_eq!(
            value["loss"].as_f64(),
            Some(-(0.125_f64.exp()) / 2.0),
            "all digits"
        );
        Ok(())
    }

    #[test]
    fn variants_have_their_own_keys() -> Result<()> {
        let (_, out) = weigh(CASE, Variant::Areal)?;
        assert!(
            out.starts_with(r#"{"id":"a","mask":[1,0,0],"n_masked":1,"m2_before":"#),
            "{out}"
        );
        assert!(!out.contains("loss"), "no loss without logprob_prox: {out}");
        let (_, out) = weigh(CASE, Variant::Fork)?;
        assert!(out.starts_with(r#"{"id":"a","ratio_min":"#), "{out}");
        Ok(())
    }

    #[test]
    fn a_refused_case_is_one_line_and_the_next_is_answered() -> Result<()> {
        let bad = CASE.replace("[1,true,0]", "[1,1,1]");
        let (weighed, out) = weigh(&format!("{bad}\n{CASE}\n"), Variant::Paper)?;
        assert_eq!((weighed.cases, weighed.refused), (2, 1));
        let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap_or(""))?;
        let error = first["error"].as_str().unwrap_or("");
        assert!(error.contains("`new` is NaN on valid token 2"), "{error}");
        Ok(())
    }

    #[test]
    fn a_line_that_is_no_case_is_named() {
        for bad in ["{", "[]", r#"{"id":"a"}"#, &CASE.replace("null", "NaN")] {
            let error = weigh(&format!("{CASE}\n{bad}\n"), Variant::Paper).expect_err("refused");
            assert!(format!("{error:#}").contains("line 2"), "{error:#}");
            assert!(error.is::<Usage>(), "{error:#}");
        }
    }

    /// Weighs with the operations of a GPU, on candle's CPU device, and as a learner on the CPU
    /// does.
    #[test]
    fn the_rule_of_a_gpu_weighs_every_case_as_the_reference_does() -> Result<()> {
        let cases = include_str!("../../../../consumers/losses/tests/oracle/m2po_cases.jsonl");
        for weigher in [
            WithGpus.weigher(Device::Emulated)?,
            CpuOnly.weigher(Device::Cpu)?,
        ] {
            let mut out = Vec::new();
            let differ = compare(cases.as_bytes(), &mut out, weigher.as_ref())?;
            assert_eq!(differ, 0, "{weigher:?}");
            let mut masked = 0;
            for line in String::from_utf8(out)?.lines() {
                let weighed: serde_json::Value = serde_json::from_str(line)?;
                assert!(weighed["differs"].is_null(), "{line}");
                masked += weighed["n_masked"].as_u64().unwrap_or(0);
            }
            assert!(masked > 100, "{masked}");
        }
        Ok(())
    }

    #[test]
    fn no_case_is_no_success() {
        for nothing in ["", "\n", " \n\n"] {
            let error = weigh(nothing, Variant::Paper).expect_err("nothing to weigh");
            assert!(error.is::<Usage>(), "{error:#}");
        }
    }
}
