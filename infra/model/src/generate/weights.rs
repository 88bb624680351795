//! Weights as the sampler reads them: slices of the decoder's parameters, rounded once if the
//! precision asks for it.

use std::ops::{Deref, Range};

use crate::cpu::dots;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::layer::index::{LayerIndex, Projection};
use crate::lora;
use crate::ops::storage::{Values, values};
use crate::precision::Rounding as _;

/// Values that are borrowed, or copied because they had to be rounded.
pub(super) enum Held<'a> {
    Borrowed(Values<'a>),
    Rounded(Vec<f32>),
}

impl Deref for Held<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Borrowed(values) => values,
            Self::Rounded(values) => values,
        }
    }
}

/// Low-rank adapter of a linear layer.
struct Adapter<'a> {
    /// Factor A `[rank, in]`.
    a: Held<'a>,
    /// Factor B `[out, rank]`.
    b: Held<'a>,
    rank: usize,
    scale: f32,
}

/// Linear layer.
pub(super) struct Linear<'a> {
    /// Weight, `[out, in]`.
    weight: Held<'a>,
    pub(super) input: usize,
    pub(super) output: usize,
    bias: Option<Values<'a>>,
    adapter: Option<Adapter<'a>>,
}

/// Input of linear layers: rows, and what their adapters make of them.
pub(super) struct Input<'a> {
    pub(super) x: &'a [f32],
    /// Values s·x·Aᵀ `[rows, rank]` of the adapter; empty without one.
    inner: Vec<f32>,
}

impl<'a> Linear<'a> {
    fn new(decoder: &'a Decoder, weight: usize, bias: Option<usize>) -> Result<Self> {
        let tensor = decoder.params.tensor(weight);
        let output = tensor.dims().first().copied().unwrap_or(0);
        Ok(Self {
            weight: held(decoder, tensor)?,
            input: tensor.elem_count() / output.max(1),
            output,
            bias: bias
                .map(|bias| values(decoder.params.tensor(bias)))
                .transpose()?,
            adapter: None,
        })
    }

    fn of(decoder: &'a Decoder, at: Projection) -> Result<Self> {
        let mut linear = Self::new(decoder, at.weight, at.bias)?;
        if let (Some(adapters), Some(at)) = (&decoder.adapters, at.adapter) {
            linear.adapter = Some(Adapter {
                a: held(decoder, adapters.params.tensor(at.a))?,
                b: held(decoder, adapters.params.tensor(at.b))?,
                rank: adapters.config.rank,
                scale: lora::scale(&adapters.config),
            });
        }
        Ok(linear)
    }

    /// Returns rows as an input of this layer.
    pub(super) fn input<'x>(&self, x: &'x [f32], decoder: &Decoder) -> Input<'x> {
        let mut inner = Vec::new();
        if let Some(adapter) = &self.adapter {
            inner.resize(x.len() / self.input * adapter.rank, 0.0);
            dots(x, &adapter.a, self.input, &mut inner);
            for value in &mut inner {
                *value *= adapter.scale;
            }
            decoder.compute.precision.round_slice(&mut inner);
        }
        Input { x, inner }
    }

    /// Computes some columns of the layer's output for some rows, `[rows, columns]`.
    pub(super) fn block(
        &self,
        input: &Input<'_>,
        rows: &Range<usize>,
        columns: &Range<usize>,
        out: &mut Vec<f32>,
    ) {
        let k = self.input;
        out.clear();
        out.resize(rows.len() * columns.len(), 0.0);
        dots(
            &input.x[rows.start * k..rows.end * k],
            &self.weight[columns.start * k..columns.end * k],
            k,
            out,
        );
        if let Some(Adapter { b, rank, .. }) = &self.adapter {
            let mut change = vec![0.0; out.len()];
            dots(
                &input.inner[rows.start * rank..rows.end * rank],
                &b[columns.start * rank..columns.end * rank],
                *rank,
                &mut change,
            );
            out.iter_mut().zip(change).for_each(|(out, d)| *out += d);
        }
        if let Some(bias) = &self.bias {
            for out in out.chunks_exact_mut(columns.len()) {
                let bias = &bias[columns.clone()];
                out.iter_mut().zip(bias).for_each(|(out, b)| *out += b);
            }
        }
    }
}

/// Weights of one layer.
pub(super) struct Layer<'a> {
    pub(super) input_norm: Values<'a>,
    pub(super) q: Linear<'a>,
    pub(super) k: Linear<'a>,
    pub(super) v: Linear<'a>,
    pub(super) q_norm: Option<Values<'a>>,
    pub(super) k_norm: Option<Values<'a>>,
    pub(super) o: Linear<'a>,
    pub(super) post_norm: Values<'a>,
    pub(super) gate: Linear<'a>,
    pub(super) up: Linear<'a>,
    pub(super) down: Linear<'a>,
}

impl<'a> Layer<'a> {
    fn new(decoder: &'a Decoder, index: &LayerIndex) -> Result<Self> {
        let norm = |index: usize| values(decoder.params.tensor(index));
        let linear = |at| Linear::of(decoder, at);
        Ok(Self {
            input_norm: norm(index.input_norm)?,
            q: linear(index.q)?,
            k: linear(index.k)?,
            v: linear(index.v)?,
            q_norm: index.q_norm.map(norm).transpose()?,
            k_norm: index.k_norm.map(norm).transpose()?,
            o: linear(index.o)?,
            post_norm: norm(index.post_norm)?,
            gate: linear(index.gate)?,
            up: linear(index.up)?,
            down: linear(index.down)?,
        })
    }
}

/// Weights of a decoder.
pub(super) struct Weights<'a> {
    pub(super) embedding: Values<'a>,
    pub(super) layers: Vec<Layer<'a>>,
    pub(super) final_norm: Values<'a>,
    pub(super) head: Linear<'a>,
}

impl<'a> Weights<'a> {
    /// Borrows the weights of a decoder.
    pub(super) fn new(decoder: &'a Decoder) -> Result<Self> {
        let index = &decoder.index;
        let layers = index.layers.iter().map(|layer| Layer::new(decoder, layer));
        Ok(Self {
            embedding: values(decoder.params.tensor(index.embedding))?,
            layers: layers.collect::<Result<_>>()?,
            final_norm: values(decoder.params.tensor(index.final_norm))?,
            head: Linear::new(decoder, index.head, None)?,
        })
    }
}

fn held<'a>(decoder: &Decoder, tensor: &'a candle_core::Tensor) -> Result<Held<'a>> {
    let plain = values(tensor)?;
    let mut scratch = Vec::new();
    let rounded = decoder.compute.precision.slice(&plain, &mut scratch);
    Ok(if std::ptr::eq(rounded, &raw const *plain) {
        Held::Borrowed(plain)
    } else {
        Held::Rounded(scratch)
    })
}
