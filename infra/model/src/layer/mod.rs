//! One decoder layer: its forward pass, and its vector-Jacobian product written by hand.

pub(crate) mod index;

use candle_core::Tensor;
use vintage_control::Precision;

use self::index::{LayerIndex, Projection};
use crate::config::DecoderConfig;
use crate::error::Result;
use crate::gradients::Gradients;
use crate::lora::Adapters;
use crate::ops::attention::{self, Attended, Heads};
use crate::ops::storage::tensor;
use crate::ops::{linear, rmsnorm, rope, rows, swiglu};
use crate::params::ParamSet;
use crate::precision::Rounding as _;
use crate::view::View;

/// Values that all layers of one pass share.
pub(crate) struct Pass<'a> {
    pub(crate) config: &'a DecoderConfig,
    pub(crate) params: &'a ParamSet,
    /// Adapters, if there are any. They are trained then, and `params` are frozen.
    pub(crate) adapters: Option<&'a Adapters>,
    pub(crate) precision: Precision,
    pub(crate) rope: &'a rope::Table,
}

/// Values that a layer keeps for its backward pass.
#[derive(Clone)]
pub(crate) struct LayerTape {
    /// Input of the layer, `[T, hidden]`.
    pub(crate) x: Tensor,
    input_scales: Vec<f32>,
    q: Rotated,
    k: Rotated,
    v: Tensor,
    attended: Attended,
    /// Residual stream after attention, `[kept, hidden]`.
    middle: Tensor,
    post_scales: Vec<f32>,
    gate: Tensor,
    up: Tensor,
}

/// Rotated queries or keys, and the values that their norm's backward needs.
#[derive(Clone)]
struct Rotated {
    rotated: Tensor,
    /// Values before the norm, and the norm's scales; `None` without a norm.
    normed: Option<(Tensor, Vec<f32>)>,
}

impl Pass<'_> {
    fn eps(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    fn get(&self, index: usize) -> &Tensor {
        self.params.tensor(index)
    }

    /// Returns a projection's weight, rounded as a factor of a product.
    fn weight(&self, at: Projection) -> Result<Tensor> {
        self.precision.of(self.get(at.weight))
    }

    fn norm(&self, x: &Tensor, weight: usize) -> Result<(Tensor, Vec<f32>)> {
        let (y, scales) = rmsnorm::forward(x, self.get(weight), self.eps())?;
        Ok((self.precision.round(y)?, scales))
    }

    fn norm_again(&self, x: &Tensor, weight: usize, scales: &[f32]) -> Result<Tensor> {
        self.precision
            .round(rmsnorm::replay(x, self.get(weight), scales)?)
    }

    /// Returns the gradient of a parameter of the model itself; `None` if adapters are trained
    /// instead.
    pub(crate) fn trained<'g>(
        &self,
        grads: &'g mut Gradients,
        index: usize,
    ) -> Option<&'g mut Tensor> {
        self.adapters.is_none().then(|| grads.tensor_mut(index))
    }

    fn project(&self, x: &Tensor, at: Projection, residual: Option<&Tensor>) -> Result<Tensor> {
        let bias = at.bias.map(|bias| self.get(bias));
        let mut y = linear::forward(x, &self.weight(at)?, bias, residual)?;
        if let (Some(adapters), Some(adapter)) = (self.adapters, at.adapter) {
            adapters.forward(adapter, self.precision, x, &mut y)?;
        }
        Ok(y)
    }

    /// Adds the gradients of a projection's parameters to `grads`.
    fn project_backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        at: Projection,
        grads: &mut Gradients,
    ) -> Result<()> {
        let Some(adapters) = self.adapters else {
            linear::backward_weight(grads.tensor_mut(at.weight), dy, x)?;
            return match at.bias {
                Some(bias) => linear::backward_bias(grads.tensor_mut(bias), dy),
                None => Ok(()),
            };
        };
        match at.adapter {
            Some(adapter) => adapters.backward(adapter, self.precision, dy, x, grads),
            None => Ok(()),
        }
    }

    /// Computes the gradient with respect to a projection's input, added to `onto` if given.
    fn input_backward(&self, dy: &Tensor, at: Projection, onto: Option<Tensor>) -> Result<Tensor> {
        let dx = linear::backward_input(dy, &self.weight(at)?, onto)?;
        match (self.adapters, at.adapter) {
            (Some(adapters), Some(adapter)) => {
                adapters.input_backward(adapter, self.precision, dy, dx)
            }
            _ => Ok(dx),
        }
    }

    fn rotated(
        &self,
        projected: Tensor,
        norm: Option<usize>,
        positions: &[u32],
    ) -> Result<Rotated> {
        let (mut rotated, normed) = match norm {
            None => (projected, None),
            Some(norm) => {
                let (y, scales) = rmsnorm::forward(&projected, self.get(norm), self.eps())?;
                (y, Some((projected, scales)))
            }
        };
        rope::forward(&mut rotated, positions, self.rope)?;
        let rotated = self.precision.round(rotated)?;
        Ok(Rotated { rotated, normed })
    }

    /// Computes the gradient of the projection's output from that of the rotated values.
    fn unrotated(
        &self,
        mut d: Tensor,
        of: &Rotated,
        norm: Option<usize>,
        positions: &[u32],
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        rope::backward(&mut d, positions, self.rope)?;
        let (Some(norm), Some((x, scales))) = (norm, &of.normed) else {
            return self.precision.round(d);
        };
        let dnorm = self.trained(grads, norm);
        let d = rmsnorm::backward(&d, x, self.get(norm), scales, dnorm, None)?;
        self.precision.round(d)
    }

    /// Computes the layer's output `[kept, hidden]` from its input `x [T, hidden]`.
    pub(crate) fn layer_forward(
        &self,
        layer: &LayerIndex,
        x: Tensor,
        view: &View,
    ) -> Result<(Tensor, LayerTape)> {
        let tape = self.layer_tape(layer, x, view)?;
        let activation = self
            .precision
            .round(swiglu::forward(&tape.gate, &tape.up)?)?;
        let y = self.project(&activation, layer.down, Some(&tape.middle))?;
        Ok((y, tape))
    }

    /// Computes the values that the backward pass needs, which is the whole layer except its last
    /// product.
    pub(crate) fn layer_tape(
        &self,
        layer: &LayerIndex,
        x: Tensor,
        view: &View,
    ) -> Result<LayerTape> {
        let (normed, input_scales) = self.norm(&x, layer.input_norm)?;
        let k = self.project(&normed, layer.k, None)?;
        let v = self
            .precision
            .round(self.project(&normed, layer.v, None)?)?;
        let (q, residual) = match &view.kept {
            None => (self.project(&normed, layer.q, None)?, x.clone()),
            Some(kept) => {
                let width = self.config.hidden_size;
                let normed = rows::gather(&normed, kept, width)?;
                (
                    self.project(&normed, layer.q, None)?,
                    rows::gather(&x, kept, width)?,
                )
            }
        };
        drop(normed);
        let q = self.rotated(q, layer.q_norm, &view.query_positions)?;
        let k = self.rotated(k, layer.k_norm, &view.key_positions)?;
        let heads = Heads::of(self.config);
        let mut attended = attention::forward(&q.rotated, &k.rotated, &v, heads, &view.pattern)?;
        attended.out = self.precision.round(attended.out)?;
        let middle = self.project(&attended.out, layer.o, Some(&residual))?;
        let (normed, post_scales) = self.norm(&middle, layer.post_norm)?;
        let gate = self.project(&normed, layer.gate, None)?;
        let up = self.project(&normed, layer.up, None)?;
        Ok(LayerTape {
            x,
            input_scales,
            q,
            k,
            v,
            attended,
            middle,
            post_scales,
            gate,
            up,
        })
    }

    /// Computes the gradient of the layer's input `[T, hidden]` from that of its output `[kept,
    /// hidden]`.
    pub(crate) fn layer_backward(
        &self,
        layer: &LayerIndex,
        tape: LayerTape,
        dy: Tensor,
        view: &View,
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        let dmiddle = self.mlp_backward(layer, &tape, dy, grads)?;
        self.attention_backward(layer, tape, dmiddle, view, grads)
    }

    fn mlp_backward(
        &self,
        layer: &LayerIndex,
        tape: &LayerTape,
        dy: Tensor,
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        let rounded = self.precision.of(&dy)?;
        let dactivation = self.input_backward(&rounded, layer.down, None)?;
        let swiglu::Backward {
            activation,
            dgate,
            dup,
        } = swiglu::backward(&dactivation, &tape.gate, &tape.up)?;
        drop(dactivation);
        let activation = self.precision.round(activation)?;
        self.project_backward(&rounded, &activation, layer.down, grads)?;
        drop((rounded, activation));
        let (dgate, dup) = (self.precision.round(dgate)?, self.precision.round(dup)?);
        let normed = self.norm_again(&tape.middle, layer.post_norm, &tape.post_scales)?;
        self.project_backward(&dgate, &normed, layer.gate, grads)?;
        self.project_backward(&dup, &normed, layer.up, grads)?;
        let dnormed = self.input_backward(&dgate, layer.gate, None)?;
        let dnormed = self.input_backward(&dup, layer.up, Some(dnormed))?;
        rmsnorm::backward(
            &dnormed,
            &tape.middle,
            self.get(layer.post_norm),
            &tape.post_scales,
            self.trained(grads, layer.post_norm),
            Some(dy),
        )
    }

    fn attention_backward(
        &self,
        layer: &LayerIndex,
        tape: LayerTape,
        dmiddle: Tensor,
        view: &View,
        grads: &mut Gradients,
    ) -> Result<Tensor> {
        let width = self.config.hidden_size;
        let LayerTape {
            x,
            input_scales,
            q,
            k,
            v,
            attended,
            middle,
            gate,
            up,
            ..
        } = tape;
        drop((middle, gate, up));
        let rounded = self.precision.of(&dmiddle)?;
        self.project_backward(&rounded, &attended.out, layer.o, grads)?;
        let dout = self
            .precision
            .round(self.input_backward(&rounded, layer.o, None)?)?;
        drop(rounded);
        let inputs = (&q.rotated, &k.rotated, &v);
        let heads = Heads::of(self.config);
        let attention::Backward { dq, dk, dv } =
            attention::backward(&dout, inputs, &attended, heads, &view.pattern)?;
        let dq = self.unrotated(dq, &q, layer.q_norm, &view.query_positions, grads)?;
        let dk = self.unrotated(dk, &k, layer.k_norm, &view.key_positions, grads)?;
        let dv = self.precision.round(dv)?;

        let normed = self.norm_again(&x, layer.input_norm, &input_scales)?;
        self.project_backward(&dk, &normed, layer.k, grads)?;
        self.project_backward(&dv, &normed, layer.v, grads)?;
        let dnormed = self.input_backward(&dk, layer.k, None)?;
        let dnormed = self.input_backward(&dv, layer.v, Some(dnormed))?;
        let (dnormed, dresidual) = match &view.kept {
            None => {
                self.project_backward(&dq, &normed, layer.q, grads)?;
                (self.input_backward(&dq, layer.q, Some(dnormed))?, dmiddle)
            }
            Some(kept) => {
                let queried = rows::gather(&normed, kept, width)?;
                self.project_backward(&dq, &queried, layer.q, grads)?;
                let dqueried = self.input_backward(&dq, layer.q, None)?;
                let mut dnormed = dnormed;
                rows::scatter_add(&mut dnormed, &dqueried, kept, width)?;
                let mut dresidual = tensor(vec![0.0; x.elem_count()], x.dims())?;
                rows::scatter_add(&mut dresidual, &dmiddle, kept, width)?;
                (dnormed, dresidual)
            }
        };
        let dnorm = self.trained(grads, layer.input_norm);
        let weight = self.get(layer.input_norm);
        rmsnorm::backward(&dnormed, &x, weight, &input_scales, dnorm, Some(dresidual))
    }
}
