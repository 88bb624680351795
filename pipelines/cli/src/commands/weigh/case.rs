//! Test cases in JSON: one batch of plain numbers each, weighed in f64 arithmetic.

use std::fmt;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use vintage_losses::{DEFAULT_CLAMP, Error, Rule, Tokens, Weighed, weigh, weigh_rows};

use crate::args::Variant;

/// Half-width of PPO's clip in the AReaL losses that are reported for a case.
const AREAL_EPS: f64 = 0.2;
/// Severity `pi_prox / pi_behav` above which AReaL's example rejects a token.
const AREAL_CAP: f64 = 5.0;

/// One batch. Keys not named here are ignored, so files that carry expected outputs can be read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Case {
    /// Identifier of the case, repeated in the outcome.
    pub(crate) id: String,
    /// `[sequences, tokens]`; the slices below are row-major. The fork's rule reads the sign of the
    /// advantage from the first column.
    pub(crate) shape: Option<[usize; 2]>,
    /// Budget `tau` of the rule.
    pub(crate) threshold: f64,
    /// Log-probs `log pi_theta` of the policy that is trained, in nats.
    pub(crate) logprob_new: Vec<Number>,
    /// Log-probs `log pi_behav` of the policy that sampled, in nats.
    pub(crate) logprob_behav: Vec<Number>,
    /// Advantages `A`.
    pub(crate) advantages: Vec<Number>,
    /// Valid tokens: true or nonzero.
    pub(crate) loss_mask: Vec<Flag>,
    /// Log-probs `log pi_prox` of the proximal policy, in nats.
    #[serde(default)]
    pub(crate) logprob_prox: Option<Vec<Number>>,
}

/// Number in a case. JSON has no NaN and no infinities, so `null` and `"NaN"` are read as NaN, and
/// `"Infinity"` and `"-Infinity"` as infinities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number(pub(crate) f64);

/// Mask entry of a case: a boolean, or a number that is true if nonzero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

/// Result of weighing a case: one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum CaseResult {
    /// Result under the paper's rule.
    Paper {
        /// Identifier of the case.
        id: String,
        /// 1 for every token that is valid and kept, else 0.
        mask: Vec<u8>,
        /// Number of valid tokens.
        n_valid: u64,
        /// Number of tokens in `T`.
        n_trust: u64,
        /// Number of masked tokens.
        n_masked: u64,
        /// Fraction of valid tokens that are masked, `n_masked / n_valid`.
        clip_frac: f64,
        /// Mean of `(log r)^2` over `T`.
        m2_trust_before: f64,
        /// Mean of `(log r)^2` over the kept tokens of `T`.
        m2_trust_after: f64,
        /// Loss of the batch.
        loss: f64,
        /// Derivative `dloss / dnew` per token.
        grad: Vec<f64>,
    },
    /// Result under AReaL's rule.
    Areal {
        /// Identifier of the case.
        id: String,
        /// 1 for every token that is valid and kept, else 0.
        mask: Vec<u8>,
        /// Number of masked tokens.
        n_masked: u64,
        /// Mean square of proximal minus behaviour log-prob over all valid tokens.
        m2_before: f64,
        /// Mean square of proximal minus behaviour log-prob over the kept tokens.
        m2_after: f64,
        /// AReaL's losses and gradients; present if the case has `logprob_prox`.
        #[serde(flatten)]
        losses: Option<ArealLosses>,
    },
    /// Result under the rule of the authors' released code.
    Fork {
        /// Identifier of the case.
        id: String,
        /// Lower bound on the ratio `r`.
        ratio_min: f64,
        /// Upper bound on the ratio `r`.
        ratio_max: f64,
        /// Fraction of valid tokens that are clipped.
        clip_frac: f64,
        /// Loss of the batch.
        loss: f64,
        /// Derivative `dloss / dnew` per token.
        grad: Vec<f64>,
    },
    /// Refusal: the case cannot be weighed by the variant.
    Refused {
        /// Identifier of the case.
        id: String,
        /// Reason for the refusal.
        error: String,
    },
}

/// AReaL's loss with PPO's clip at 0.2 around the proximal policy, without and with the behaviour
/// weight.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ArealLosses {
    /// Loss without the behaviour weight `pi_prox / pi_behav`.
    pub(crate) loss_plain: f64,
    /// Derivative `dloss_plain / dnew` per token.
    pub(crate) grad_plain: Vec<f64>,
    /// Loss with the behaviour weight `pi_prox / pi_behav`; tokens with a weight above 5 are
    /// rejected.
    pub(crate) loss_weighted: f64,
    /// Derivative `dloss_weighted / dnew` per token.
    pub(crate) grad_weighted: Vec<f64>,
}

impl Case {
    /// Weighs the case in f64. What cannot be weighed gives [`CaseResult::Refused`].
    pub(crate) fn weigh(&self, variant: Variant) -> CaseResult {
        self.try_weigh(variant)
            .unwrap_or_else(|error| CaseResult::Refused {
                id: self.id.clone(),
                error,
            })
    }

    fn try_weigh(&self, variant: Variant) -> Result<CaseResult, String> {
        let numbers = |list: &[Number]| list.iter().map(|number| number.0).collect::<Vec<f64>>();
        let new = numbers(&self.logprob_new);
        let behavior = numbers(&self.logprob_behav);
        let advantage = numbers(&self.advantages);
        let prox = self.logprob_prox.as_deref().map(numbers);
        let valid: Vec<bool> = self.loss_mask.iter().map(|flag| flag.0).collect();
        let row = self.row_length(new.len())?;
        let tokens = Tokens {
            new: &new,
            behavior: &behavior,
            advantage: &advantage,
            valid: &valid,
            prox: prox.as_deref(),
            row_ends: None,
            scope: None,
            clamp: DEFAULT_CLAMP,
        };
        let tau = self.threshold;
        let outcome = match variant {
            Variant::Paper => self.paper(&tokens, tau),
            Variant::Areal => self.areal(&tokens, tau),
            Variant::Fork => self.fork(&tokens, tau, row),
        };
        outcome.map_err(|error| error.to_string())
    }

    /// Returns the number of tokens per sequence; all tokens are one sequence if the case has no
    /// shape.
    fn row_length(&self, tokens: usize) -> Result<usize, String> {
        match self.shape {
            None => Ok(tokens.max(1)),
            Some([rows, columns]) if rows.checked_mul(columns) == Some(tokens) => {
                Ok(columns.max(1))
            }
            Some([rows, columns]) => Err(format!(
                "cannot weigh the case: its shape is {rows} x {columns} and `logprob_new` has \
                 {tokens} tokens; give rows x columns tokens, row after row"
            )),
        }
    }

    fn paper(&self, tokens: &Tokens<'_, f64>, tau: f64) -> Result<CaseResult, Error> {
        let Weighed {
            weight,
            mask,
            loss,
            stats,
        } = weigh(&Rule::M2poPaper { tau }, tokens)?;
        Ok(CaseResult::Paper {
            id: self.id.clone(),
            mask: digits(&mask),
            n_valid: stats.n_valid,
            n_trust: stats.n_trust,
            n_masked: stats.n_masked,
            clip_frac: stats.clip_frac,
            m2_trust_before: stats.m2_rule_before,
            m2_trust_after: stats.m2_rule_after,
            loss,
            grad: weight,
        })
    }

    fn areal(&self, tokens: &Tokens<'_, f64>, tau: f64) -> Result<CaseResult, Error> {
        let rule = |behavior_cap| Rule::M2poAreal {
            tau,
            eps: AREAL_EPS,
            behavior_cap,
        };
        let plain = weigh(&rule(None), tokens)?;
        let losses = if tokens.prox.is_some() {
            let weighted = weigh(&rule(Some(AREAL_CAP)), tokens)?;
            Some(ArealLosses {
                loss_plain: plain.loss,
                grad_plain: plain.weight,
                loss_weighted: weighted.loss,
                grad_weighted: weighted.weight,
            })
        } else {
            None
        };
        Ok(CaseResult::Areal {
            id: self.id.clone(),
            mask: digits(&plain.mask),
            n_masked: plain.stats.n_masked,
            m2_before: plain.stats.m2_rule_before,
            m2_after: plain.stats.m2_rule_after,
            losses,
        })
    }

    fn fork(&self, tokens: &Tokens<'_, f64>, tau: f64, row: usize) -> Result<CaseResult, Error> {
        let weighed = weigh_rows(&Rule::M2poFork { tau }, tokens, row)?;
        let (ratio_min, ratio_max) = weighed.stats.ratio_bounds.unwrap_or((0.0, f64::INFINITY));
        Ok(CaseResult::Fork {
            id: self.id.clone(),
            ratio_min,
            ratio_max,
            clip_frac: weighed.stats.clip_frac,
            loss: weighed.loss,
            grad: weighed.weight,
        })
    }
}

fn digits(mask: &[bool]) -> Vec<u8> {
    mask.iter().map(|&kept| u8::from(kept)).collect()
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FlagVisitor).map(Self)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, null, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<f64, E> {
        Ok(f64::NAN)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<f64, E> {
        match value {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(value), &self)),
        }
    }
}

struct FlagVisitor;

impl Visitor<'_> for FlagVisitor {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or a number")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<bool, E> {
        Ok(value != 0)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<bool, E> {
        Ok(value != 0)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<bool, E> {
        Ok(value != 0.0)
    }
}
