//! One decoder layer: forward, and its vector-Jacobian product by hand.

use candle_core::Tensor;

use crate::ops::attention::cache::{Cache, Reader};
use crate::ops::attention::{self, Attended, Heads, Pattern};
use crate::ops::{linear, rmsnorm, rope, rows, swiglu, values};
use crate::{Gradients, ModelConfig, ParamSet, Result};

/// Where one layer's parameters lie in the sorted set.
#[derive(Debug, Clone)]
pub(crate) struct LayerIndex {
    input_norm: usize,
    q: Projection,
    k: Projection,
    v: Projection,
    o: Projection,
    q_norm: Option<usize>,
    k_norm: Option<usize>,
    post_norm: usize,
    gate: usize,
    up: usize,
    down: usize,
}

#[derive(Debug, Clone, Copy)]
struct Projection {
    weight: usize,
    bias: Option<usize>,
}

impl LayerIndex {
    pub(crate) fn new(params: &ParamSet, layer: usize) -> Result<Self> {
        let at = |name: &str| params.require(&format!("model.layers.{layer}.{name}"));
        let optional = |name: &str| params.index(&format!("model.layers.{layer}.{name}"));
        let projection = |name: &str| -> Result<Projection> {
            Ok(Projection {
                weight: at(&format!("self_attn.{name}.weight"))?,
                bias: optional(&format!("self_attn.{name}.bias")),
            })
        };
        Ok(Self {
            input_norm: at("input_layernorm.weight")?,
            q: projection("q_proj")?,
            k: projection("k_proj")?,
            v: projection("v_proj")?,
            o: projection("o_proj")?,
            q_norm: optional("self_attn.q_norm.weight"),
            k_norm: optional("self_attn.k_norm.weight"),
            post_norm: at("post_attention_layernorm.weight")?,
            gate: at("mlp.gate_proj.weight")?,
            up: at("mlp.up_proj.weight")?,
            down: at("mlp.down_proj.weight")?,
        })
    }
}

/// What every layer of one pass shares.
pub(crate) struct Pass<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) params: &'a ParamSet,
    pub(crate) rope: &'a rope::Table,
}

/// The sequences as one layer sees them.
#[derive(Debug)]
pub(crate) struct View {
    /// Which keys each query sees.
    pub(crate) pattern: Pattern,
    /// Place of every query in its sequence.
    pub(crate) query_positions: Vec<u32>,
    /// Place of every key in its sequence.
    pub(crate) key_positions: Vec<u32>,
    /// Rows of the residual stream that go on after this layer's keys and values are taken;
    /// `None` for all. In the last layer only those a target reads.
    pub(crate) kept: Option<Vec<u32>>,
}

/// What a layer keeps for its backward pass.
pub(crate) struct LayerTape {
    /// Input, `[T, hidden]`.
    x: Tensor,
    input_scales: Vec<f32>,
    q: Rotated,
    k: Rotated,
    v: Tensor,
    attended: Attended,
    /// After the attention's residual, `[kept, hidden]`.
    middle: Tensor,
    post_scales: Vec<f32>,
    gate: Tensor,
    up: Tensor,
}

impl LayerTape {
    /// Rotated keys and values, `[T, key heads · head_dim]`, as a cache keeps them.
    pub(crate) fn keys_and_values(&self) -> (&Tensor, &Tensor) {
        (&self.k.rotated, &self.v)
    }
}

/// Queries or keys, and what their norm needs.
struct Rotated {
    rotated: Tensor,
    /// Before the norm, and the norm's scales.
    normed: Option<(Tensor, Vec<f32>)>,
}

impl Pass<'_> {
    fn eps(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    fn get(&self, index: usize) -> &Tensor {
        self.params.tensor(index)
    }

    fn project(&self, x: &Tensor, at: Projection, residual: Option<&Tensor>) -> Result<Tensor> {
        linear::forward(
            x,
            self.get(at.weight),
            at.bias.map(|bias| self.get(bias)),
            residual,
        )
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
        Ok(Rotated { rotated, normed })
    }

    /// Gradient of the projection's output from that of the rotated one.
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
            return Ok(d);
        };
        rmsnorm::backward(&d, x, self.get(norm), scales, grads.tensor_mut(norm), None)
    }

    /// Output `[kept, hidden]` from input `x [T, hidden]`.
    pub(crate) fn layer_forward(
        &self,
        layer: &LayerIndex,
        x: Tensor,
        view: &View,
    ) -> Result<(Tensor, LayerTape)> {
        let width = self.config.hidden_size;
        let (normed, input_scales) = rmsnorm::forward(&x, self.get(layer.input_norm), self.eps())?;
        let k = self.project(&normed, layer.k, None)?;
        let v = self.project(&normed, layer.v, None)?;
        let (q, residual) = match &view.kept {
            None => (self.project(&normed, layer.q, None)?, x.clone()),
            Some(kept) => {
                let normed = rows::gather(&normed, kept, width)?;
                (
                    self.project(&normed, layer.q, None)?,
                    rows::gather(&x, kept, width)?,
                )
            }
        };
        let q = self.rotated(q, layer.q_norm, &view.query_positions)?;
        let k = self.rotated(k, layer.k_norm, &view.key_positions)?;
        let heads = Heads::of(self.config);
        let attended = attention::forward(&q.rotated, &k.rotated, &v, heads, &view.pattern)?;
        let middle = self.project(&attended.out, layer.o, Some(&residual))?;
        let (normed, post_scales) =
            rmsnorm::forward(&middle, self.get(layer.post_norm), self.eps())?;
        let gate = linear::forward(&normed, self.get(layer.gate), None, None)?;
        let up = linear::forward(&normed, self.get(layer.up), None, None)?;
        let activation = swiglu::forward(&gate, &up)?;
        let y = linear::forward(&activation, self.get(layer.down), None, Some(&middle))?;
        let tape = LayerTape {
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
        };
        Ok((y, tape))
    }

    /// Output `[rows, hidden]` for one new token of every row, whose key and value go into
    /// `cache`.
    pub(crate) fn layer_step(
        &self,
        layer: &LayerIndex,
        x: &Tensor,
        positions: &[u32],
        readers: &[Reader],
        cache: &mut Cache,
    ) -> Result<Tensor> {
        let (normed, _) = rmsnorm::forward(x, self.get(layer.input_norm), self.eps())?;
        let q = self.rotated(
            self.project(&normed, layer.q, None)?,
            layer.q_norm,
            positions,
        )?;
        let k = self.rotated(
            self.project(&normed, layer.k, None)?,
            layer.k_norm,
            positions,
        )?;
        let v = self.project(&normed, layer.v, None)?;
        let (k, v) = (values(&k.rotated)?, values(&v)?);
        let width = self.config.key_width();
        for ((reader, k), v) in readers
            .iter()
            .zip(k.chunks_exact(width))
            .zip(v.chunks_exact(width))
        {
            cache.store(reader.row, reader.visible - 1, k, v);
        }
        let attended = cache.attend(&q.rotated, readers)?;
        let middle = self.project(&attended, layer.o, Some(x))?;
        let (normed, _) = rmsnorm::forward(&middle, self.get(layer.post_norm), self.eps())?;
        let gate = linear::forward(&normed, self.get(layer.gate), None, None)?;
        let up = linear::forward(&normed, self.get(layer.up), None, None)?;
        let activation = swiglu::forward(&gate, &up)?;
        linear::forward(&activation, self.get(layer.down), None, Some(&middle))
    }

    /// Gradient of the layer's input `[T, hidden]` from that of its output `[kept, hidden]`.
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
        let dactivation = linear::backward_input(&dy, self.get(layer.down), None)?;
        let swiglu::Backward {
            activation,
            dgate,
            dup,
        } = swiglu::backward(&dactivation, &tape.gate, &tape.up)?;
        linear::backward_weight(grads.tensor_mut(layer.down), &dy, &activation)?;
        let norm = self.get(layer.post_norm);
        let normed = rmsnorm::replay(&tape.middle, norm, &tape.post_scales)?;
        linear::backward_weight(grads.tensor_mut(layer.gate), &dgate, &normed)?;
        linear::backward_weight(grads.tensor_mut(layer.up), &dup, &normed)?;
        let dnormed = linear::backward_input(&dgate, self.get(layer.gate), None)?;
        let dnormed = linear::backward_input(&dup, self.get(layer.up), Some(dnormed))?;
        let dnorm = grads.tensor_mut(layer.post_norm);
        rmsnorm::backward(
            &dnormed,
            &tape.middle,
            norm,
            &tape.post_scales,
            dnorm,
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
            ..
        } = tape;
        project_backward(&dmiddle, &attended.out, layer.o, grads)?;
        let dout = linear::backward_input(&dmiddle, self.get(layer.o.weight), None)?;
        let inputs = (&q.rotated, &k.rotated, &v);
        let heads = Heads::of(self.config);
        let attention::Backward { dq, dk, dv } =
            attention::backward(&dout, inputs, &attended, heads, &view.pattern)?;
        let dq = self.unrotated(dq, &q, layer.q_norm, &view.query_positions, grads)?;
        let dk = self.unrotated(dk, &k, layer.k_norm, &view.key_positions, grads)?;

        let norm = self.get(layer.input_norm);
        let normed = rmsnorm::replay(&x, norm, &input_scales)?;
        project_backward(&dk, &normed, layer.k, grads)?;
        project_backward(&dv, &normed, layer.v, grads)?;
        let dnormed = linear::backward_input(&dk, self.get(layer.k.weight), None)?;
        let dnormed = linear::backward_input(&dv, self.get(layer.v.weight), Some(dnormed))?;
        let (dnormed, dresidual) = match &view.kept {
            None => {
                project_backward(&dq, &normed, layer.q, grads)?;
                let weight = self.get(layer.q.weight);
                (linear::backward_input(&dq, weight, Some(dnormed))?, dmiddle)
            }
            Some(kept) => {
                let queried = rows::gather(&normed, kept, width)?;
                project_backward(&dq, &queried, layer.q, grads)?;
                let dqueried = linear::backward_input(&dq, self.get(layer.q.weight), None)?;
                let mut dnormed = dnormed;
                rows::scatter_add(&mut dnormed, &dqueried, kept, width)?;
                let mut dresidual = crate::ops::tensor(vec![0.0; x.elem_count()], x.dims())?;
                rows::scatter_add(&mut dresidual, &dmiddle, kept, width)?;
                (dnormed, dresidual)
            }
        };
        let dnorm = grads.tensor_mut(layer.input_norm);
        rmsnorm::backward(&dnormed, &x, norm, &input_scales, dnorm, Some(dresidual))
    }
}

/// Gradients of a projection's parameters.
fn project_backward(dy: &Tensor, x: &Tensor, at: Projection, grads: &mut Gradients) -> Result<()> {
    linear::backward_weight(grads.tensor_mut(at.weight), dy, x)?;
    match at.bias {
        Some(bias) => linear::backward_bias(grads.tensor_mut(bias), dy),
        None => Ok(()),
    }
}
