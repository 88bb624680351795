//! Batches of sequences, the tokens to be scored in them, and the scores.

use crate::{
    config::DecoderConfig,
    error::{Error, Result},
};

/// Batch of sequences of different lengths, packed end to end without padding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Token ids of all sequences, `[T]`.
    pub tokens: Vec<u32>,
    /// Offset at which each sequence starts, followed by `T`: `[sequences + 1]`, from 0, ascending.
    pub starts: Vec<usize>,
}

impl Packed {
    /// Packs sequences end to end.
    pub fn new<S: AsRef<[u32]>>(sequences: impl IntoIterator<Item = S>) -> Self {
        let mut packed = Self {
            tokens: Vec::new(),
            starts: vec![0],
        };
        for sequence in sequences {
            packed.tokens.extend_from_slice(sequence.as_ref());
            packed.starts.push(packed.tokens.len());
        }
        packed
    }

    /// Refuses a batch that `config` cannot run: bad offsets, empty or over-long sequences, unknown
    /// tokens.
    pub fn check(&self, config: &DecoderConfig) -> Result<()> {
        let refuse = |problem: String| Err(Error::Input(format!("packing a batch: {problem}")));
        if self.starts.first() != Some(&0) || self.starts.last() != Some(&self.tokens.len()) {
            return refuse(format!(
                "starts must run from 0 to the number of tokens ({}), got {:?} to {:?}",
                self.tokens.len(),
                self.starts.first(),
                self.starts.last()
            ));
        }
        for (row, bounds) in self.starts.windows(2).enumerate() {
            if bounds[0] >= bounds[1] {
                return refuse(format!("sequence {row} has no token; leave it out"));
            }
            let len = bounds[1] - bounds[0];
            if len > config.max_position_embeddings {
                return refuse(format!(
                    "sequence {row} has {len} tokens, over the model's context of {}; shorten it",
                    config.max_position_embeddings
                ));
            }
        }
        match self
            .tokens
            .iter()
            .position(|&token| token as usize >= config.vocab_size)
        {
            Some(at) => refuse(format!(
                "token {at} has id {}, outside the model's vocabulary of {}",
                self.tokens[at], config.vocab_size
            )),
            None => Ok(()),
        }
    }
}

/// Tokens whose log-probs are to be computed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Targets {
    /// Packed position that predicts the token, which is the one before it: `[N]`.
    pub position: Vec<u32>,
    /// Id of the predicted token, `[N]`.
    pub token: Vec<u32>,
    /// Softmax temperature, above 0 and finite, `[N]`.
    pub temperature: Vec<f32>,
}

impl Targets {
    /// Returns the number of targets.
    pub fn len(&self) -> usize {
        self.token.len()
    }

    /// Returns true if there are no targets.
    pub fn is_empty(&self) -> bool {
        self.token.is_empty()
    }

    /// Refuses targets that a batch of `tokens` tokens cannot have: bad positions, tokens or
    /// temperatures.
    pub fn check(&self, tokens: usize, config: &DecoderConfig) -> Result<()> {
        let refuse = |problem: String| Err(Error::Input(format!("scoring targets: {problem}")));
        if self.position.len() != self.len() || self.temperature.len() != self.len() {
            return refuse(format!(
                "{} positions, {} tokens and {} temperatures; give one of each per target",
                self.position.len(),
                self.len(),
                self.temperature.len()
            ));
        }
        for (i, &position) in self.position.iter().enumerate() {
            let (token, temperature) = (self.token[i], self.temperature[i]);
            if position as usize >= tokens {
                return refuse(format!("target {i} is at position {position} of {tokens}"));
            }
            if token as usize >= config.vocab_size {
                return refuse(format!(
                    "target {i} is token {token}, outside the model's vocabulary of {}",
                    config.vocab_size
                ));
            }
            if !(temperature > 0.0 && temperature.is_finite()) {
                return refuse(format!(
                    "target {i} has temperature {temperature}; it must be above 0 and finite"
                ));
            }
        }
        Ok(())
    }
}

/// Log-prob and entropy that the model gives to each target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scored {
    /// Log-prob of the target under the softmax at its temperature, in nats, `[N]`.
    pub logprob: Vec<f32>,
    /// Entropy of the softmax at the target's temperature, in nats, `[N]`.
    pub entropy: Vec<f32>,
}
