//! Test cases of plain numbers, weighed on a device and by the reference, to check a GPU.

use serde::Serialize;
use vintage_learner::{NotWeighed, Weigher};
use vintage_losses::{Rule, Tokens};

use super::case::{Case, Number};

/// Result of weighing a case, with its numbers rounded to f32, the learner's input type.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WeighedCase {
    /// Identifier of the case.
    pub(crate) id: String,
    /// 1 for every token that is valid and kept, else 0.
    pub(crate) mask: Vec<u8>,
    /// Number of valid tokens.
    pub(crate) n_valid: u64,
    /// Number of tokens in `T`.
    pub(crate) n_trust: u64,
    /// Number of masked tokens.
    pub(crate) n_masked: u64,
    /// Mean of `(log r)^2` over `T`.
    pub(crate) m2_trust_before: f64,
    /// Mean of `(log r)^2` over the kept tokens of `T`.
    pub(crate) m2_trust_after: f64,
    /// Loss of the batch.
    pub(crate) loss: f64,
    /// Reason for a refusal, by device and reference alike. Slices of unequal length are refused
    /// without asking the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// First difference between device and reference; `None`, as it should be, if they agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) differs: Option<String>,
}

impl WeighedCase {
    /// Weighs a case on the device, by `weigher`, and by the reference, and compares them.
    pub(crate) fn of(case: &Case, weigher: &dyn Weigher) -> Self {
        let narrow = |list: &[Number]| list.iter().map(|x| x.0 as f32).collect::<Vec<f32>>();
        let new = narrow(&case.logprob_new);
        let behavior = narrow(&case.logprob_behav);
        let advantage = narrow(&case.advantages);
        let valid: Vec<bool> = case.loss_mask.iter().map(|flag| flag.0).collect();
        let rule = Rule::M2poPaper {
            tau: case.threshold,
        };
        let tokens = Tokens::new(&new, &behavior, &advantage, &valid);
        let expected = vintage_losses::weigh(&rule, &tokens);
        let mut weighed = Self {
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
        if let Err(vintage_losses::Error::Length { .. }) = expected {
            weighed.error = expected.err().map(|error| error.to_string());
            return weighed;
        }
        match (weigher.weigh(&rule, &tokens), expected) {
            (Ok(found), Ok(expected)) => {
                weighed.mask = found.mask.iter().map(|&kept| u8::from(kept)).collect();
                let stats = found.stats;
                (weighed.n_valid, weighed.n_trust) = (stats.n_valid, stats.n_trust);
                weighed.n_masked = stats.n_masked;
                weighed.m2_trust_before = stats.m2_trust_before;
                weighed.m2_trust_after = stats.m2_trust_after;
                weighed.loss = found.loss;
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1e-3);
                weighed.differs = if found.mask != expected.mask {
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
            (Err(NotWeighed::Refused(found)), Err(expected)) if found == expected => {
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
