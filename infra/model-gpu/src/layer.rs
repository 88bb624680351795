//! One decoder layer in tensor operations: its forward pass and its vector-Jacobian product. The
//! steps are the same as in `vintage_model`.

use candle_core::{Result, Tensor};
use vintage_control::Precision;
use vintage_model::DecoderConfig;
use vintage_model::parts::{Heads, LayerIndex, Pattern, Projection};

use crate::attention;
use crate::gradients::DeviceGradients;
use crate::ops::{
    Rotation, factor, rms_norm, rms_norm_backward, scatter_rows, swiglu, swiglu_backward,
};

/// Queries and keys of one layer on the device: their pattern and rotations.
pub(crate) struct View<'a> {
    pub(crate) pattern: &'a Pattern,
    pub(crate) queries: Rotation,
    pub(crate) keys: Rotation,
    /// Rows that continue after keys and values are computed; `None` for all.
    pub(crate) kept: Option<Tensor>,
}

/// Values that all layers of one pass share.
pub(crate) struct Pass<'a> {
    pub(crate) config: &'a DecoderConfig,
    pub(crate) params: &'a [Tensor],
    /// Adapters, if there are any. They are trained then, and `params` are frozen.
    pub(crate) adapters: Option<&'a [Tensor]>,
    /// Factor of an adapter's contribution, alpha / rank.
    pub(crate) scale: f64,
    pub(crate) precision: Precision,
}

/// Values that a layer keeps for its backward pass.
pub(crate) struct LayerTape {
    /// Input of the layer, `[T, hidden]`.
    pub(crate) x: Tensor,
    q: Rotated,
    k: Rotated,
    v: Tensor,
    attended: Tensor,
    /// Residual stream after attention, `[kept, hidden]`.
    middle: Tensor,
    gate: Tensor,
    up: Tensor,
}

/// Rotated queries or keys `[n, heads, d]`, and their values before the norm, if they have one.
struct Rotated {
    rotated: Tensor,
    before: Option<Tensor>,
}

impl Pass<'_> {
    fn eps(&self) -> f64 {
        // The CPU kernels take ε as f32.
        f64::from(self.config.rms_norm_eps as f32)
    }

    fn get(&self, index: usize) -> &Tensor {
        &self.params[index]
    }

    fn factor(&self, x: &Tensor) -> Result<Tensor> {
        factor(self.precision, x)
    }

    fn weight(&self, at: Projection) -> Result<Tensor> {
        self.factor(self.get(at.weight))
    }

    pub(crate) fn norm(&self, x: &Tensor, weight: usize) -> Result<Tensor> {
        self.factor(&rms_norm(x, self.get(weight), self.eps())?)
    }

    /// Computes the gradient of a norm's input; that of its weight is added to `grads`, if it is
    /// trained.
    pub(crate) fn norm_backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        weight: usize,
        grads: &mut DeviceGradients,
    ) -> Result<Tensor> {
        let (dx, dweight) = rms_norm_backward(dy, x, self.get(weight), self.eps())?;
        if self.adapters.is_none() {
            grads.add(weight, &dweight)?;
        }
        Ok(dx)
    }

    /// Returns A and B of a projection's adapter, if it has one, and the indices of their
    /// gradients.
    fn adapter(&self, at: Projection) -> Result<Option<(Tensor, Tensor, [usize; 2])>> {
        let (Some(adapters), Some(at)) = (self.adapters, at.adapter) else {
            return Ok(None);
        };
        let (a, b) = (self.factor(&adapters[at.a])?, self.factor(&adapters[at.b])?);
        Ok(Some((a, b, [at.a, at.b])))
    }

    /// Computes scale·x·w, rounded as a factor of a product.
    fn inner(&self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        self.factor(&(x.matmul(w)? * self.scale)?)
    }

    fn project(&self, x: &Tensor, at: Projection) -> Result<Tensor> {
        let mut y = x.matmul(&self.weight(at)?.t()?)?;
        if let Some(bias) = at.bias {
            y = y.broadcast_add(self.get(bias))?;
        }
        match self.adapter(at)? {
            Some((a, b, _)) => y + self.inner(x, &a.t()?)?.matmul(&b.t()?)?,
            None => Ok(y),
        }
    }

    /// Adds the gradients of a projection's parameters to `grads`.
    fn project_backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        at: Projection,
        grads: &mut DeviceGradients,
    ) -> Result<()> {
        if self.adapters.is_none() {
            grads.add(at.weight, &dy.t()?.matmul(x)?)?;
            return match at.bias {
                Some(bias) => grads.add(bias, &dy.sum(0)?),
                None => Ok(()),
            };
        }
        let Some((a, b, [at_a, at_b])) = self.adapter(at)? else {
            return Ok(());
        };
        let inner = self.inner(x, &a.t()?)?;
        grads.add(at_b, &dy.t()?.matmul(&inner)?)?;
        let dinner = self.inner(dy, &b)?;
        grads.add(at_a, &dinner.t()?.matmul(x)?)
    }

    /// Computes the gradient with respect to a projection's input.
    fn input_backward(&self, dy: &Tensor, at: Projection) -> Result<Tensor> {
        let dx = dy.matmul(&self.weight(at)?)?;
        match self.adapter(at)? {
            Some((a, b, _)) => dx + self.inner(dy, &b)?.matmul(&a)?,
            None => Ok(dx),
        }
    }

    fn rotated(&self, x: &Tensor, norm: Option<usize>, by: &Rotation) -> Result<Rotated> {
        let x = x.reshape(((), self.heads_of(x)?, self.config.head_dim))?;
        let rotate = |x: &Tensor| self.factor(&by.forward(x)?);
        Ok(match norm {
            None => Rotated {
                rotated: rotate(&x)?,
                before: None,
            },
            Some(norm) => Rotated {
                rotated: rotate(&rms_norm(&x, self.get(norm), self.eps())?)?,
                before: Some(x),
            },
        })
    }

    fn heads_of(&self, x: &Tensor) -> Result<usize> {
        Ok(x.dim(1)? / self.config.head_dim)
    }

    /// Computes the gradient of the projection's output, as a factor, from that of the rotated
    /// values.
    fn unrotated(
        &self,
        d: &Tensor,
        of: &Rotated,
        norm: Option<usize>,
        by: &Rotation,
        grads: &mut DeviceGradients,
    ) -> Result<Tensor> {
        let d = by.backward(d)?;
        let d = match (norm, &of.before) {
            (Some(norm), Some(before)) => {
                let rows = |x: &Tensor| x.reshape(((), self.config.head_dim));
                let dx = self.norm_backward(&rows(&d)?, &rows(before)?, norm, grads)?;
                dx.reshape(d.shape())?
            }
            _ => d,
        };
        self.factor(&d.flatten_from(1)?)
    }

    /// Computes the layer's output `[kept, hidden]` from its input `x [T, hidden]`.
    pub(crate) fn forward(
        &self,
        layer: &LayerIndex,
        x: &Tensor,
        view: &View<'_>,
    ) -> Result<(Tensor, LayerTape)> {
        let tape = self.tape(layer, x, view)?;
        let activation = self.factor(&swiglu(&tape.gate, &tape.up)?)?;
        let y = (self.project(&activation, layer.down)? + &tape.middle)?;
        Ok((y, tape))
    }

    /// Computes the values that the backward pass needs, which is the whole layer except its last
    /// product.
    pub(crate) fn tape(
        &self,
        layer: &LayerIndex,
        x: &Tensor,
        view: &View<'_>,
    ) -> Result<LayerTape> {
        let normed = self.norm(x, layer.input_norm)?;
        let k = self.rotated(&self.project(&normed, layer.k)?, layer.k_norm, &view.keys)?;
        let v = self.factor(&self.project(&normed, layer.v)?)?;
        let v = v.reshape(k.rotated.shape())?;
        let (queried, residual) = match &view.kept {
            None => (normed, x.clone()),
            Some(kept) => (normed.index_select(kept, 0)?, x.index_select(kept, 0)?),
        };
        let q = self.project(&queried, layer.q)?;
        let q = self.rotated(&q, layer.q_norm, &view.queries)?;
        let inputs = (&q.rotated, &k.rotated, &v);
        let attended = attention::forward(inputs, Heads::of(self.config), view.pattern)?;
        let attended = self.factor(&attended)?;
        let middle = (self.project(&attended, layer.o)? + residual)?;
        let normed = self.norm(&middle, layer.post_norm)?;
        let gate = self.project(&normed, layer.gate)?;
        let up = self.project(&normed, layer.up)?;
        Ok(LayerTape {
            x: x.clone(),
            q,
            k,
            v,
            attended,
            middle,
            gate,
            up,
        })
    }

    /// Computes the gradient of the layer's input `[T, hidden]` from that of its output `[kept,
    /// hidden]`.
    pub(crate) fn backward(
        &self,
        layer: &LayerIndex,
        tape: LayerTape,
        dy: &Tensor,
        view: &View<'_>,
        grads: &mut DeviceGradients,
    ) -> Result<Tensor> {
        let dmiddle = self.mlp_backward(layer, &tape, dy, grads)?;
        self.attention_backward(layer, tape, &dmiddle, view, grads)
    }

    fn mlp_backward(
        &self,
        layer: &LayerIndex,
        tape: &LayerTape,
        dy: &Tensor,
        grads: &mut DeviceGradients,
    ) -> Result<Tensor> {
        let rounded = self.factor(dy)?;
        let dactivation = self.input_backward(&rounded, layer.down)?;
        let activation = self.factor(&swiglu(&tape.gate, &tape.up)?)?;
        self.project_backward(&rounded, &activation, layer.down, grads)?;
        drop((rounded, activation));
        let [dgate, dup] = swiglu_backward(&dactivation, &tape.gate, &tape.up)?;
        let (dgate, dup) = (self.factor(&dgate)?, self.factor(&dup)?);
        drop(dactivation);
        let normed = self.norm(&tape.middle, layer.post_norm)?;
        self.project_backward(&dgate, &normed, layer.gate, grads)?;
        self.project_backward(&dup, &normed, layer.up, grads)?;
        let dnormed =
            (self.input_backward(&dgate, layer.gate)? + self.input_backward(&dup, layer.up)?)?;
        self.norm_backward(&dnormed, &tape.middle, layer.post_norm, grads)? + dy
    }

    fn attention_backward(
        &self,
        layer: &LayerIndex,
        tape: LayerTape,
        dmiddle: &Tensor,
        view: &View<'_>,
        grads: &mut DeviceGradients,
    ) -> Result<Tensor> {
        let LayerTape {
            x,
            q,
            k,
            v,
            attended,
            middle,
            gate,
            up,
        } = tape;
        drop((middle, gate, up));
        let rounded = self.factor(dmiddle)?;
        self.project_backward(&rounded, &attended, layer.o, grads)?;
        let dout = self.factor(&self.input_backward(&rounded, layer.o)?)?;
        drop(rounded);
        let inputs = (&q.rotated, &k.rotated, &v);
        let [dq, dk, dv] = attention::backward(
            (&attended, &dout),
            inputs,
            Heads::of(self.config),
            view.pattern,
        )?;
        let dq = self.unrotated(&dq, &q, layer.q_norm, &view.queries, grads)?;
        let dk = self.unrotated(&dk, &k, layer.k_norm, &view.keys, grads)?;
        let dv = self.factor(&dv.flatten_from(1)?)?;

        let normed = self.norm(&x, layer.input_norm)?;
        self.project_backward(&dk, &normed, layer.k, grads)?;
        self.project_backward(&dv, &normed, layer.v, grads)?;
        let dnormed = (self.input_backward(&dk, layer.k)? + self.input_backward(&dv, layer.v)?)?;
        let dqueried = self.input_backward(&dq, layer.q)?;
        let (dnormed, dresidual) = match &view.kept {
            None => {
                self.project_backward(&dq, &normed, layer.q, grads)?;
                ((dnormed + dqueried)?, dmiddle.clone())
            }
            Some(kept) => {
                let queried = normed.index_select(kept, 0)?;
                self.project_backward(&dq, &queried, layer.q, grads)?;
                (
                    dnormed.index_add(kept, &dqueried, 0)?,
                    scatter_rows(dmiddle, kept, x.dim(0)?)?,
                )
            }
        };
        self.norm_backward(&dnormed, &x, layer.input_norm, grads)? + dresidual
    }
}
