//! Batches of sequences, the tokens to be scored in them, and the scores.

use std::{
    iter::{Chain, Once, Take},
    ops::Range,
};

use crate::{
    config::DecoderConfig,
    error::{Error, Result},
};

/// Batch of sequences of different lengths, packed end to end without padding. Sequences may continue
/// one that is in the batch once, as the completions of a group continue its prompt: its tokens are
/// computed once for all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Token ids of all sequences, `[T]`.
    pub tokens: Vec<u32>,
    /// Offset at which each sequence starts, followed by `T`: `[sequences + 1]`, from 0, ascending.
    pub starts: Vec<usize>,
    /// Number of the earlier sequence that each one continues, `[sequences]`; `None` for those that
    /// begin with their first token. A sequence that is continued continues none itself.
    pub continues: Vec<Option<usize>>,
}

impl Default for Packed {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            starts: vec![0],
            continues: Vec::new(),
        }
    }
}

impl Packed {
    /// Packs sequences end to end.
    pub fn new<S: AsRef<[u32]>>(sequences: impl IntoIterator<Item = S>) -> Self {
        let mut packed = Self::default();
        for sequence in sequences {
            packed.push(sequence.as_ref().iter().copied(), None);
        }
        packed
    }

    /// Adds a sequence, which continues the one of number `continued` if given; returns its number.
    pub fn push(
        &mut self,
        tokens: impl IntoIterator<Item = u32>,
        continued: Option<usize>,
    ) -> usize {
        self.tokens.extend(tokens);
        self.starts.push(self.tokens.len());
        self.continues.push(continued);
        self.continues.len() - 1
    }

    /// Adds a prompt and its completion as one sequence. Returns the position that predicts each token of
    /// the completion; its last token is predicted but never an input.
    pub fn push_row(
        &mut self,
        prompt: impl ExactSizeIterator<Item = u32>,
        completion: impl ExactSizeIterator<Item = u32>,
    ) -> Predictors {
        let (first, len) = (self.tokens.len() + prompt.len(), completion.len());
        self.push(prompt.chain(completion.take(len.saturating_sub(1))), None);
        predictors(first - 1, first, len)
    }

    /// Adds a completion of the prompt that is sequence `prompt`, which others may continue too. Returns
    /// what [`Packed::push_row`] does. A completion of one token adds no sequence.
    pub fn push_completion(
        &mut self,
        prompt: usize,
        completion: impl ExactSizeIterator<Item = u32>,
    ) -> Predictors {
        let (first, len) = (self.tokens.len(), completion.len());
        if len > 1 {
            self.push(completion.take(len - 1), Some(prompt));
        }
        predictors(self.starts[prompt + 1] - 1, first, len)
    }

    /// Returns every sequence in order: the rows of the one that it continues, and its own.
    pub fn sequences(&self) -> impl Iterator<Item = Sequence> + '_ {
        let rows = |number: usize| self.starts[number]..self.starts[number + 1];
        let continues = self.continues.iter().enumerate();
        continues.map(move |(number, continued)| Sequence {
            before: continued.map_or(0..0, rows),
            own: rows(number),
        })
    }

    /// Returns the length of the longest sequence, with what it continues.
    pub fn longest(&self) -> usize {
        self.sequences()
            .map(|of| of.token_count())
            .max()
            .unwrap_or(0)
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
        if self.continues.len() + 1 != self.starts.len() {
            return refuse(format!(
                "{} sequences start, and {} say which one they continue; give one of each",
                self.starts.len() - 1,
                self.continues.len()
            ));
        }
        for (row, bounds) in self.starts.windows(2).enumerate() {
            if bounds[0] >= bounds[1] {
                return refuse(format!("sequence {row} has no token; leave it out"));
            }
            let is_first = |before: usize| before < row && self.continues[before].is_none();
            if let Some(before) = self.continues[row].filter(|&before| !is_first(before)) {
                return refuse(format!(
                    "sequence {row} continues sequence {before}; it can continue an earlier one \
                     that continues none"
                ));
            }
        }
        for (row, sequence) in self.sequences().enumerate() {
            let len = sequence.token_count();
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

/// Positions that predict the tokens of a completion, one after the other.
pub type Predictors = Take<Chain<Once<u32>, Range<u32>>>;

/// Returns the positions that predict a completion of `len` tokens: the prompt's last one, then those of
/// its own tokens from `second` on.
fn predictors(first: usize, second: usize, len: usize) -> Predictors {
    let rest = second as u32..(second + len.saturating_sub(1)) as u32;
    std::iter::once(first as u32).chain(rest).take(len)
}

/// Rows of one sequence in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Rows of the sequence that it continues; empty if it continues none.
    pub before: Range<usize>,
    /// Rows of its own tokens.
    pub own: Range<usize>,
}

impl Sequence {
    /// Returns the number of tokens, with those before.
    pub fn token_count(&self) -> usize {
        self.before.len() + self.own.len()
    }

    /// Returns the position of every own token.
    pub(crate) fn positions(&self) -> Range<u32> {
        self.before.len() as u32..self.token_count() as u32
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
