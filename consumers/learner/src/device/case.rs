//! Test cases of plain numbers, weighed on a device and by the reference, to check a GPU.

use candle_core::{Device, Tensor};
use serde::Serialize;
use vintage_m2po::case::{Case, Number};
use vintage_m2po::{DEFAULT_CLAMP, Rule, Tokens};
use vintage_model::Place;

use super::tokens::Known;
use super::weigh::{Problem, weigh};
use crate::Result;

/// Device on which test cases are weighed by the paper's rule.
#[derive(Debug)]
pub struct CaseWeigher {
    device: Device,
}

/// Result of weighing a case, with its numbers rounded to f32, the learner's input type.
#[derive(Debug, Clone, Serialize)]
pub struct WeighedCase {
    /// Identifier of the case.
    pub id: String,
    /// 1 for every token that is valid and kept, else 0.
    pub mask: Vec<u8>,
    /// Number of valid tokens.
    pub n_valid: u64,
    /// Number of tokens in `T`, the valid tokens in the trust region.
    pub n_trust: u64,
    /// Number of masked tokens.
    pub n_masked: u64,
    /// Mean of `(log r)^2` over `T`.
    pub m2_trust_before: f64,
    /// Mean of `(log r)^2` over the kept tokens of `T`.
    pub m2_trust_after: f64,
    /// Loss of the batch.
    pub loss: f64,
    /// Reason for the refusal of the case, by device and reference alike. Slices of different
    /// lengths are refused by the reference alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Difference from the reference, in words; absent if the two agree, as they must.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
}

impl CaseWeigher {
    /// Opens the device at `place`; on a CPU the same tensor operations run there.
    pub fn open(place: Place) -> Result<Self> {
        let device = place.open()?.unwrap_or(Device::Cpu);
        Ok(Self { device })
    }

    /// Weighs a case on the device and by the reference, and compares the results.
    pub fn weigh(&self, case: &Case) -> WeighedCase {
        let narrow = |list: &[Number]| list.iter().map(|x| x.0 as f32).collect::<Vec<f32>>();
        let new = narrow(&case.logprob_new);
        let behavior = narrow(&case.logprob_behav);
        let advantage = narrow(&case.advantages);
        let valid: Vec<bool> = case.loss_mask.iter().map(|flag| flag.0).collect();
        let rule = Rule::M2poPaper {
            tau: case.threshold,
        };
        let expected =
            vintage_m2po::weigh(&rule, &Tokens::new(&new, &behavior, &advantage, &valid));
        let mut weighed = WeighedCase {
            id: case.id.clone(),
            mask: Vec::new(),
            n_valid: 0,
            n_trust: 0,
            n_masked: 0,
            m2_trust_before: 0.0,
            m2_trust_after: 0.0,
            loss: 0.0,
            error: None,
            differs: None,
        };
        if let Err(vintage_m2po::Error::Length { .. }) = expected {
            weighed.error = expected.err().map(|error| error.to_string());
            return weighed;
        }
        let known = Known {
            behavior: &behavior,
            advantage: &advantage,
            valid: &valid,
        };
        let found = Tensor::new(new.as_slice(), &self.device)
            .map_err(Problem::Device)
            .and_then(|new| {
                let found = weigh(&rule, DEFAULT_CLAMP, &new, &known)?;
                let mask = found.mask.to_vec1::<f64>()?;
                Ok((found, mask))
            });
        match (found, expected) {
            (Ok((found, mask)), Ok(expected)) => {
                weighed.mask = mask.iter().map(|&kept| u8::from(kept == 1.0)).collect();
                let stats = found.stats;
                (weighed.n_valid, weighed.n_trust) = (stats.n_valid, stats.n_trust);
                weighed.n_masked = stats.n_masked;
                weighed.m2_trust_before = stats.m2_trust_before;
                weighed.m2_trust_after = stats.m2_trust_after;
                weighed.loss = found.loss;
                let kept = mask.iter().map(|&kept| kept == 1.0);
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1e-3);
                weighed.differs = if !kept.eq(expected.mask.iter().copied()) {
                    Some(format!(
                        "the mask, of which {} are kept by the reference",
                        { expected.mask.iter().filter(|&&kept| kept).count() }
                    ))
                } else if stats.n_trust != expected.stats.n_trust {
                    Some(format!("n_trust, expected {}", expected.stats.n_trust))
                } else if !near(found.loss, expected.loss) {
                    Some(format!("loss, expected {}", expected.loss))
                } else {
                    None
                };
            }
            (Err(Problem::Refused(found)), Err(expected)) if found == expected => {
                weighed.error = Some(found.to_string());
            }
            (found, expected) => {
                let found =
                    found.map_or_else(|error| format!("{error:?}"), |_| "a mask".to_owned());
                let expected =
                    expected.map_or_else(|error| error.to_string(), |_| "a mask".to_owned());
                weighed.differs = Some(format!("found {found}, expected {expected}"));
            }
        }
        weighed
    }
}
