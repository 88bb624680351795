use candle_core::Tensor;

use crate::layer::{LayerIndex, LayerTape, Pass, View};
use crate::ops::attention::{Pattern, Segment};
use crate::ops::{embedding, head, rmsnorm, rope, rows};
use crate::{Gradients, ModelConfig, Packed, ParamSet, Result, Scored, Targets};

/// A decoder-only transformer with an explicit forward and backward pass.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(crate) config: ModelConfig,
    pub(crate) params: ParamSet,
    pub(crate) layers: Vec<LayerIndex>,
    /// Rotation of each pair of a head's dimensions, radians per position.
    pub(crate) frequencies: Vec<f32>,
    pub(crate) embedding: usize,
    final_norm: usize,
    /// The embedding where the head is tied.
    pub(crate) head: usize,
}

/// What a forward pass keeps for its backward pass: activations of every layer, and the
/// batch. Holds no `[tokens, vocab]`.
pub struct Tape {
    tokens: Vec<u32>,
    views: Views,
    rope: rope::Table,
    layers: Vec<LayerTape>,
    /// Output of the last layer, `[rows, hidden]`.
    last: Tensor,
    scales: Vec<f32>,
    readers: Readers,
    lse: Vec<f32>,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape")
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

/// How the layers see the sequences: all but the last in full, the last only where read.
struct Views {
    all: View,
    last: View,
}

impl Views {
    fn of(&self, layer: usize, layers: usize) -> &View {
        if layer + 1 == layers {
            &self.last
        } else {
            &self.all
        }
    }
}

/// Which rows of the last layer's output the targets read.
pub(crate) struct Readers {
    /// Packed positions read by any target, ascending.
    pub(crate) rows: Vec<u32>,
    /// For each target, its place in `rows`.
    place: Vec<u32>,
    /// Whether the places are 0, 1, 2, …, so that nothing need be gathered.
    in_order: bool,
    token: Vec<u32>,
    temperature: Vec<f32>,
}

impl Readers {
    fn new(targets: &Targets) -> Self {
        let mut rows = targets.position.clone();
        rows.sort_unstable();
        rows.dedup();
        let place: Vec<u32> = targets
            .position
            .iter()
            .map(|position| rows.partition_point(|row| row < position) as u32)
            .collect();
        let in_order = place
            .iter()
            .enumerate()
            .all(|(i, &place)| i == place as usize);
        let (token, temperature) = (targets.token.clone(), targets.temperature.clone());
        Self {
            rows,
            place,
            in_order,
            token,
            temperature,
        }
    }

    fn queries(&self) -> head::Queries<'_> {
        head::Queries {
            token: &self.token,
            temperature: &self.temperature,
        }
    }
}

impl Decoder {
    /// A decoder of these parameters.
    ///
    /// # Errors
    /// Parameters that are not those `config` asks for.
    pub fn new(config: ModelConfig, params: ParamSet) -> Result<Self> {
        params.check(&config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|layer| LayerIndex::new(&params, layer))
            .collect::<Result<_>>()?;
        let embedding = params.require("model.embed_tokens.weight")?;
        let head = if config.tie_word_embeddings {
            embedding
        } else {
            params.require("lm_head.weight")?
        };
        Ok(Self {
            layers,
            frequencies: rope::frequencies(&config),
            embedding,
            final_norm: params.require("model.norm.weight")?,
            head,
            config,
            params,
        })
    }

    /// Shape and constants.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The parameters.
    pub fn params(&self) -> &ParamSet {
        &self.params
    }

    /// The parameters, to be changed in place by an optimizer.
    pub fn params_mut(&mut self) -> &mut ParamSet {
        &mut self.params
    }

    /// Takes other parameters of the same shapes, such as another policy version.
    pub fn set_params(&mut self, params: ParamSet) -> Result<()> {
        params.check(&self.config)?;
        self.params = params;
        Ok(())
    }

    /// Log-prob and entropy of every target. Keeps nothing.
    pub fn score(&self, batch: &Packed, targets: &Targets) -> Result<Scored> {
        if targets.is_empty() {
            batch.check(&self.config)?;
            return Ok(Scored::default());
        }
        let run = self.run(batch, targets, drop)?;
        Ok(run.scored())
    }

    /// Log-prob and entropy of every target, and what [`Decoder::backward`] needs.
    pub fn forward(&self, batch: &Packed, targets: &Targets) -> Result<(Scored, Tape)> {
        let mut layers = Vec::with_capacity(self.layers.len());
        let run = self.run(batch, targets, |tape| layers.push(tape))?;
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

    /// Adds d(Σ dlogprob[i]·logprob[i])/dparameter to `grads`.
    pub fn backward(&self, tape: Tape, dlogprob: &[f32], grads: &mut Gradients) -> Result<()> {
        grads.check(&self.params)?;
        let readers = &tape.readers;
        if dlogprob.len() != readers.token.len() {
            return Err(crate::Error::Input(format!(
                "running backward: {} gradients for {} targets; give one per target",
                dlogprob.len(),
                readers.token.len()
            )));
        }
        let width = self.config.hidden_size;
        let weight = self.params.tensor(self.final_norm);
        let normed = rmsnorm::replay(&tape.last, weight, &tape.scales)?;
        let head_weight = self.params.tensor(self.head);
        let dhead = grads.tensor_mut(self.head);
        let (queries, lse) = (readers.queries(), &tape.lse);
        let dnormed = if readers.in_order {
            head::backward(dlogprob, &normed, head_weight, queries, lse, dhead)?
        } else {
            let hidden = rows::gather(&normed, &readers.place, width)?;
            let d = head::backward(dlogprob, &hidden, head_weight, queries, lse, dhead)?;
            let mut dnormed = crate::ops::tensor(vec![0.0; normed.elem_count()], normed.dims())?;
            rows::scatter_add(&mut dnormed, &d, &readers.place, width)?;
            dnormed
        };
        let dnorm = grads.tensor_mut(self.final_norm);
        let mut dx = rmsnorm::backward(&dnormed, &tape.last, weight, &tape.scales, dnorm, None)?;
        let pass = Pass {
            config: &self.config,
            params: &self.params,
            rope: &tape.rope,
        };
        for (number, layer) in tape.layers.into_iter().enumerate().rev() {
            let view = tape.views.of(number, self.layers.len());
            dx = pass.layer_backward(&self.layers[number], layer, dx, view, grads)?;
        }
        embedding::backward(grads.tensor_mut(self.embedding), &dx, &tape.tokens, width)
    }

    /// Logits `[positions, vocab]`, row-major, at packed positions: for checks against another
    /// implementation. Training and scoring never form them.
    pub fn logits(&self, batch: &Packed, positions: &[u32]) -> Result<Vec<f32>> {
        let targets = Targets {
            position: positions.to_vec(),
            token: vec![0; positions.len()],
            temperature: vec![1.0; positions.len()],
        };
        let run = self.run(batch, &targets, drop)?;
        let hidden = rows::gather(&run.normed, &run.readers.place, self.config.hidden_size)?;
        let logits = head::logits(&hidden, self.params.tensor(self.head))?;
        Ok(crate::ops::values(&logits)?.to_vec())
    }

    fn run(
        &self,
        batch: &Packed,
        targets: &Targets,
        mut keep: impl FnMut(LayerTape),
    ) -> Result<Run> {
        batch.check(&self.config)?;
        targets.check(batch.tokens.len(), &self.config)?;
        let readers = Readers::new(targets);
        let views = Views {
            all: View::all(&batch.starts),
            last: View::only(&batch.starts, readers.rows.clone()),
        };
        let longest = batch
            .starts
            .windows(2)
            .map(|w| w[1] - w[0])
            .max()
            .unwrap_or(0);
        let rope = rope::Table::new(&self.frequencies, longest);
        let pass = Pass {
            config: &self.config,
            params: &self.params,
            rope: &rope,
        };
        let width = self.config.hidden_size;
        let mut x = embedding::forward(self.params.tensor(self.embedding), &batch.tokens, width)?;
        for (number, layer) in self.layers.iter().enumerate() {
            let view = views.of(number, self.layers.len());
            let (y, tape) = pass.layer_forward(layer, x, view)?;
            keep(tape);
            x = y;
        }
        let (normed, scales) = self.final_norm(&x)?;
        let head_weight = self.params.tensor(self.head);
        let output = if readers.in_order {
            head::forward(&normed, head_weight, readers.queries())?
        } else {
            let hidden = rows::gather(&normed, &readers.place, width)?;
            head::forward(&hidden, head_weight, readers.queries())?
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
        rmsnorm::forward(
            x,
            self.params.tensor(self.final_norm),
            self.config.rms_norm_eps as f32,
        )
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

impl View {
    /// Every position is read.
    pub(crate) fn all(starts: &[usize]) -> Self {
        let positions: Vec<u32> = positions(starts);
        let segments = starts
            .windows(2)
            .map(|w| Segment {
                queries: w[0]..w[1],
                keys: w[0]..w[1],
            })
            .collect();
        let visible = positions.iter().map(|position| position + 1).collect();
        Self {
            pattern: Pattern { segments, visible },
            query_positions: positions.clone(),
            key_positions: positions,
            kept: None,
        }
    }

    /// Only the positions `kept`, ascending, are read on.
    pub(crate) fn only(starts: &[usize], kept: Vec<u32>) -> Self {
        let key_positions = positions(starts);
        if kept.len() == key_positions.len() {
            return Self::all(starts);
        }
        let mut from = 0;
        let segments = starts
            .windows(2)
            .map(|w| {
                let to = from + kept[from..].partition_point(|&row| (row as usize) < w[1]);
                let queries = from..to;
                from = to;
                Segment {
                    queries,
                    keys: w[0]..w[1],
                }
            })
            .collect();
        let query_positions: Vec<u32> = kept
            .iter()
            .map(|&row| key_positions[row as usize])
            .collect();
        let visible = query_positions
            .iter()
            .map(|position| position + 1)
            .collect();
        let pattern = Pattern { segments, visible };
        Self {
            pattern,
            query_positions,
            key_positions,
            kept: Some(kept),
        }
    }
}

fn positions(starts: &[usize]) -> Vec<u32> {
    starts
        .windows(2)
        .flat_map(|w| 0..(w[1] - w[0]) as u32)
        .collect()
}
