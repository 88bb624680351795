mod adapters;

use candle_core::Tensor;

use crate::config::DecoderConfig;
use crate::cpu::in_pool;
use crate::error::{Error, Result};
use crate::gradients::Gradients;
use crate::layer::index::DecoderIndex;
use crate::layer::{LayerTape, Pass};
use crate::lora::Adapters;
use crate::ops::storage::{tensor, values};
use crate::ops::{embedding, head, rmsnorm, rope, rows};
use crate::pace::Computed;
use crate::packed::{Packed, Scored, Targets};
use crate::params::ParamSet;
use crate::precision::{Compute, Rounding as _};
use crate::view::{Readers, Views};

/// Decoder-only transformer with an explicit forward and backward pass.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(crate) config: DecoderConfig,
    pub(crate) params: ParamSet,
    /// Adapters, if there are any. They are trained then, and `params` are frozen.
    pub(crate) adapters: Option<Adapters>,
    pub(crate) compute: Compute,
    pub(crate) index: DecoderIndex,
    /// Rotation of each pair of a head's dimensions, in radians per position.
    pub(crate) frequencies: Vec<f32>,
}

/// Values that a forward pass keeps for its backward pass: the batch, and either the activations of
/// every layer or each layer's input only. No tensor `[tokens, vocab]` is kept. A copy shares the
/// activations, which no backward pass changes, so that several passes can follow one forward pass.
#[derive(Clone)]
pub struct Tape {
    tokens: Vec<u32>,
    views: Views,
    rope: rope::Table,
    layers: Vec<Kept>,
    /// Output of the last layer, `[rows, hidden]`.
    last: Tensor,
    scales: Vec<f32>,
    readers: Readers,
    lse: Vec<f32>,
}

/// Values kept of one layer.
#[derive(Clone)]
enum Kept {
    /// Everything that the layer's backward pass needs.
    Whole(LayerTape),
    /// Input of the layer, from which the backward pass computes the rest again.
    Input(Tensor),
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape")
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// Creates a decoder with these parameters.
    ///
    /// # Errors
    /// The parameters are not the ones that `config` requires.
    pub fn new(config: DecoderConfig, params: ParamSet) -> Result<Self> {
        params.check(&config)?;
        Ok(Self {
            index: DecoderIndex::new(&config, &params)?,
            frequencies: rope::frequencies(&config),
            config,
            params,
            adapters: None,
            compute: Compute::default(),
        })
    }

    /// Returns which parameters the passes read, for their implementation on another device.
    pub fn index(&self) -> &DecoderIndex {
        &self.index
    }

    /// Returns the model's shape and constants.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Returns the model's parameters, without adapters.
    pub fn params(&self) -> &ParamSet {
        &self.params
    }

    /// Returns the model's parameters for changes in place.
    pub fn params_mut(&mut self) -> &mut ParamSet {
        &mut self.params
    }

    /// Returns the parameters that are trained and that [`Gradients`] are made for: the adapters if
    /// there are any, otherwise all parameters.
    pub fn trainable(&self) -> &ParamSet {
        let adapters = self.adapters.as_ref();
        adapters.map_or(&self.params, |adapters| &adapters.params)
    }

    /// Returns the trained parameters (adapters, or all) for changes in place by an optimizer.
    pub fn trainable_mut(&mut self) -> &mut ParamSet {
        match &mut self.adapters {
            Some(adapters) => &mut adapters.params,
            None => &mut self.params,
        }
    }

    /// Sets the precision of products and the values that a forward pass keeps. By default
    /// everything is f32 and everything is kept.
    pub fn set_compute(&mut self, compute: Compute) {
        self.compute = compute;
    }

    pub(crate) fn pass<'a>(&'a self, rope: &'a rope::Table) -> Pass<'a> {
        Pass {
            config: &self.config,
            params: &self.params,
            adapters: self.adapters.as_ref(),
            precision: self.compute.precision,
            rope,
        }
    }

    /// Computes log-prob and entropy of every target, and keeps nothing for a backward pass.
    pub fn score(&self, batch: &Packed, targets: &Targets) -> Result<Scored> {
        if targets.is_empty() {
            batch.check(&self.config)?;
            return Ok(Scored::default());
        }
        let run = self.run(batch, targets, drop)?;
        Ok(run.scored())
    }

    /// Computes log-prob and entropy of every target, and the tape for [`Decoder::backward`].
    pub fn forward(&self, batch: &Packed, targets: &Targets) -> Result<(Scored, Tape)> {
        let mut layers = Vec::with_capacity(self.index.layers.len());
        let recompute = self.compute.recompute;
        let run = self.run(batch, targets, |tape| {
            layers.push(if recompute {
                Kept::Input(tape.x)
            } else {
                Kept::Whole(tape)
            });
        })?;
        let scored = run.scored();
        let Run {
            views,
            rope,
            last,
            scales,
            readers,
            output,
            ..
        } = run;
        let tokens = batch.tokens.clone();
        Ok((
            scored,
            Tape {
                tokens,
                views,
                rope,
                layers,
                last,
                scales,
                readers,
                lse: output.lse,
            },
        ))
    }

    /// Adds d(Σᵢ dlogprobᵢ·logprobᵢ)/dparameter to `grads`, for every trained parameter.
    pub fn backward(&self, tape: Tape, dlogprob: &[f32], grads: &mut Gradients) -> Result<()> {
        let values = tape.tokens.len() * self.config.hidden_size;
        in_pool(values, || self.run_backward(tape, dlogprob, grads))
    }

    fn run_backward(&self, tape: Tape, dlogprob: &[f32], grads: &mut Gradients) -> Result<()> {
        grads.check(self.trainable())?;
        let pass = self.pass(&tape.rope);
        let precision = self.compute.precision;
        let readers = &tape.readers;
        if dlogprob.len() != readers.token.len() {
            return Err(Error::Input(format!(
                "running backward: {} gradients for {} targets; give one per target",
                dlogprob.len(),
                readers.token.len()
            )));
        }
        let width = self.config.hidden_size;
        let weight = self.params.tensor(self.index.final_norm);
        let normed = precision.round(rmsnorm::replay(&tape.last, weight, &tape.scales)?)?;
        let dnormed = {
            let head = head::Head {
                weight: self.params.tensor(self.index.head),
                precision,
            };
            let dhead = pass.trained(grads, self.index.head);
            let (queries, lse) = (readers.queries(), &tape.lse);
            if readers.in_order {
                head.backward(dlogprob, &normed, queries, lse, dhead)?
            } else {
                let hidden = rows::gather(&normed, &readers.place, width)?;
                let d = head.backward(dlogprob, &hidden, queries, lse, dhead)?;
                let mut dnormed = tensor(vec![0.0; normed.elem_count()], normed.dims())?;
                rows::scatter_add(&mut dnormed, &d, &readers.place, width)?;
                dnormed
            }
        };
        drop(normed);
        let dnorm = pass.trained(grads, self.index.final_norm);
        let mut dx = rmsnorm::backward(&dnormed, &tape.last, weight, &tape.scales, dnorm, None)?;
        drop((dnormed, tape.last));
        for (number, kept) in tape.layers.into_iter().enumerate().rev() {
            let (layer, view) = (
                &self.index.layers[number],
                tape.views.of(number, self.index.layers.len()),
            );
            let whole = match kept {
                Kept::Whole(whole) => whole,
                Kept::Input(x) => pass.layer_tape(layer, x, view)?,
            };
            Computed::count_trained();
            dx = pass.layer_backward(layer, whole, dx, view, grads)?;
        }
        let Some(dembedding) = pass.trained(grads, self.index.embedding) else {
            return Ok(());
        };
        embedding::backward(dembedding, &dx, &tape.tokens, width)
    }

    /// Returns the logits `[positions, vocab]`, row-major, at packed positions. They serve for
    /// checks against another implementation; training and scoring never form them in full.
    pub fn logits(&self, batch: &Packed, positions: &[u32]) -> Result<Vec<f32>> {
        let targets = Targets {
            position: positions.to_vec(),
            token: vec![0; positions.len()],
            temperature: vec![1.0; positions.len()],
        };
        let run = self.run(batch, &targets, drop)?;
        let hidden = rows::gather(&run.normed, &run.readers.place, self.config.hidden_size)?;
        let logits = self.head_logits(&hidden)?;
        Ok(values(&logits)?.to_vec())
    }

    fn run(
        &self,
        batch: &Packed,
        targets: &Targets,
        keep: impl FnMut(LayerTape) + Send,
    ) -> Result<Run> {
        let values = batch.tokens.len() * self.config.hidden_size;
        in_pool(values, || self.run_forward(batch, targets, keep))
    }

    fn run_forward(
        &self,
        batch: &Packed,
        targets: &Targets,
        mut keep: impl FnMut(LayerTape),
    ) -> Result<Run> {
        batch.check(&self.config)?;
        targets.check(batch.tokens.len(), &self.config)?;
        let readers = Readers::new(targets);
        let views = Views::new(batch, readers.rows.clone());
        let rope = rope::Table::new(&self.frequencies, batch.longest());
        let pass = self.pass(&rope);
        let width = self.config.hidden_size;
        let mut x = embedding::forward(
            self.params.tensor(self.index.embedding),
            &batch.tokens,
            width,
        )?;
        for (number, layer) in self.index.layers.iter().enumerate() {
            let view = views.of(number, self.index.layers.len());
            Computed::count_trained();
            let (y, tape) = pass.layer_forward(layer, x, view)?;
            keep(tape);
            x = y;
        }
        let (normed, scales) = self.final_norm(&x)?;
        let head = head::Head {
            weight: self.params.tensor(self.index.head),
            precision: self.compute.precision,
        };
        let output = if readers.in_order {
            head.forward(&normed, readers.queries())?
        } else {
            let hidden = rows::gather(&normed, &readers.place, width)?;
            head.forward(&hidden, readers.queries())?
        };
        Ok(Run {
            views,
            rope,
            last: x,
            normed,
            scales,
            readers,
            output,
        })
    }

    pub(crate) fn final_norm(&self, x: &Tensor) -> Result<(Tensor, Vec<f32>)> {
        let weight = self.params.tensor(self.index.final_norm);
        let (normed, scales) = rmsnorm::forward(x, weight, self.config.rms_norm_eps as f32)?;
        Ok((self.compute.precision.round(normed)?, scales))
    }

    /// Computes the full logits `[n, vocab]` of normalized hidden states.
    pub(crate) fn head_logits(&self, normed: &Tensor) -> Result<Tensor> {
        let weight = self
            .compute
            .precision
            .of(self.params.tensor(self.index.head))?;
        head::logits(normed, &weight)
    }
}

struct Run {
    views: Views,
    rope: rope::Table,
    last: Tensor,
    normed: Tensor,
    scales: Vec<f32>,
    readers: Readers,
    output: head::Output,
}

impl Run {
    fn scored(&self) -> Scored {
        let head::Output {
            logprob, entropy, ..
        } = &self.output;
        Scored {
            logprob: logprob.clone(),
            entropy: entropy.clone(),
        }
    }
}
