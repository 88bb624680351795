//! Decoder on a device: parameters, forward and backward pass.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use vintage_control::Precision;
use vintage_model::parts::{
    DecoderIndex, Readers, Rotations, Views, adapter_scale, frequencies, values,
};
use vintage_model::{
    Compute, Computed, Decoder, DecoderConfig, Error, Packed, ParamSet, ParamSpec, Targets, parts,
};

use crate::gradients::DeviceGradients;
use crate::head::{Head, Output};
use crate::layer::{LayerTape, Pass, View};
use crate::ops::{Angles, factor, indices, scatter_rows};

/// Decoder whose parameters are on a device, usually a GPU.
///
/// Computes the same as [`Decoder`], but only with candle's tensor operations, so the same code
/// runs on a GPU and, for tests, on a CPU.
pub struct DeviceDecoder {
    config: DecoderConfig,
    device: Device,
    compute: Compute,
    params: Vec<Tensor>,
    /// Adapters, if there are any. They are trained then, and `params` are frozen.
    adapters: Option<Vec<Tensor>>,
    scale: f64,
    /// Names and shapes of the trained parameters.
    specs: Arc<[ParamSpec]>,
    index: DecoderIndex,
    frequencies: Vec<f32>,
}

/// Log-prob and entropy that the model gives to each target, on the device.
#[derive(Debug, Clone)]
pub struct DeviceScored {
    /// Log-prob of the target under the softmax at its temperature, in nats, f32 `[N]`.
    pub logprob: Tensor,
    /// Entropy of the softmax at the target's temperature, in nats, f32 `[N]`.
    pub entropy: Tensor,
}

/// Values on the device that a forward pass keeps for its backward pass.
pub struct DeviceTape {
    tokens: Tensor,
    views: Views,
    angles: Angles,
    layers: Vec<Kept>,
    /// Output of the last layer, `[rows, hidden]`.
    last: Tensor,
    readers: Readers,
    /// Index of each target's row among the rows of the last layer.
    places: Tensor,
    lse: Tensor,
}

/// Values kept of one layer: all of them, or its input only.
enum Kept {
    Whole(LayerTape),
    Input(Tensor),
}

impl std::fmt::Debug for DeviceDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceDecoder")
            .field("device", &self.device.location())
            .field("compute", &self.compute)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for DeviceTape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceTape")
            .field("tokens", &self.tokens.elem_count())
            .finish_non_exhaustive()
    }
}

impl DeviceDecoder {
    /// Copies parameters and adapters of `decoder` to `device`. `compute` sets the precision and
    /// what is kept.
    pub fn new(
        decoder: &Decoder,
        compute: Compute,
        device: &Device,
    ) -> vintage_model::Result<Self> {
        let adapters = decoder.lora();
        // A frozen matrix serves only as a factor of products, so it can be stored in bf16.
        let frozen_in_bf16 = adapters.is_some() && compute.precision == Precision::Bf16;
        let index = decoder.index().clone();
        let tied = index.head == index.embedding;
        let is_factor =
            |name: &str| name.ends_with("_proj.weight") || (name == "lm_head.weight" && !tied);
        let copy = |set: &ParamSet, in_bf16: bool| -> Result<Vec<Tensor>> {
            set.iter()
                .map(|(name, tensor)| {
                    let tensor = on_device(tensor, device)?;
                    if in_bf16 && is_factor(name) {
                        tensor.to_dtype(DType::BF16)
                    } else {
                        Ok(tensor)
                    }
                })
                .collect()
        };
        let failed = "copying parameters to the device";
        let params = copy(decoder.params(), frozen_in_bf16).map_err(Error::tensor(failed))?;
        let copied = adapters
            .map(|_| copy(decoder.trainable(), false))
            .transpose()
            .map_err(Error::tensor(failed))?;
        Ok(Self {
            config: decoder.config().clone(),
            device: device.clone(),
            compute,
            params,
            adapters: copied,
            scale: adapters.map_or(0.0, |lora| f64::from(adapter_scale(lora))),
            specs: decoder.trainable().shared_specs(),
            index,
            frequencies: frequencies(decoder.config()),
        })
    }

    /// Returns the device that holds the parameters.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the settings of the computation.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// Returns the model's shape and constants.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Returns the trained parameters (the adapters if there are any, otherwise all), sorted by
    /// name.
    pub fn trainable(&self) -> impl Iterator<Item = (&ParamSpec, &Tensor)> {
        let tensors = self.adapters.as_ref().unwrap_or(&self.params);
        self.specs.iter().zip(tensors)
    }

    /// Returns the trained parameters for replacement by an optimizer, sorted by name.
    pub fn trainable_mut(&mut self) -> impl Iterator<Item = (&ParamSpec, &mut Tensor)> {
        let tensors = self.adapters.as_mut().unwrap_or(&mut self.params);
        self.specs.iter().zip(tensors)
    }

    /// Creates zero gradients in the shapes of the trained parameters.
    pub fn zero_gradients(&self) -> vintage_model::Result<DeviceGradients> {
        DeviceGradients::zeros(Arc::clone(&self.specs), &self.device)
            .map_err(Error::tensor("zeros"))
    }

    /// Copies the trained parameters into `decoder`, from which this one was made.
    pub fn read_into(&self, decoder: &mut Decoder) -> vintage_model::Result<()> {
        let tensors = self.adapters.as_ref().unwrap_or(&self.params);
        // A copy is needed on a CPU too, because kernels change parameters in place.
        let read = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.copy();
        let read: Result<Vec<_>> = tensors.iter().map(read).collect();
        let read = read.map_err(Error::tensor("reading parameters"))?;
        decoder.trainable_mut().replace(read)
    }

    fn pass(&self) -> Pass<'_> {
        Pass {
            config: &self.config,
            params: &self.params,
            adapters: self.adapters.as_deref(),
            scale: self.scale,
            precision: self.compute.precision,
        }
    }

    fn head<'a>(&'a self, readers: &'a Readers) -> Head<'a> {
        Head {
            weight: &self.params[self.index.head],
            precision: self.compute.precision,
            readers,
        }
    }

    /// Computes log-prob and entropy of every target, and keeps nothing for a backward pass.
    pub fn score(&self, batch: &Packed, targets: &Targets) -> vintage_model::Result<DeviceScored> {
        let run = self.run(batch, targets, drop)?;
        Ok(run.scored)
    }

    /// Computes log-prob and entropy of every target, and the tape for [`DeviceDecoder::backward`].
    pub fn forward(
        &self,
        batch: &Packed,
        targets: &Targets,
    ) -> vintage_model::Result<(DeviceScored, DeviceTape)> {
        let mut layers = Vec::with_capacity(self.index.layers.len());
        let recompute = self.compute.recompute;
        let run = self.run(batch, targets, |tape| {
            layers.push(if recompute {
                Kept::Input(tape.x)
            } else {
                Kept::Whole(tape)
            });
        })?;
        Ok((
            run.scored,
            DeviceTape {
                tokens: run.tokens,
                views: run.views,
                angles: run.angles,
                layers,
                last: run.last,
                readers: run.readers,
                places: run.places,
                lse: run.lse,
            },
        ))
    }

    /// Adds d(Σᵢ dlogprobᵢ·logprobᵢ)/dparameter to `grads` for every trained parameter, given f32
    /// `dlogprob [N]`.
    pub fn backward(
        &self,
        tape: DeviceTape,
        dlogprob: &Tensor,
        grads: &mut DeviceGradients,
    ) -> vintage_model::Result<()> {
        self.set_products();
        self.backward_of(tape, dlogprob, grads)
            .map_err(Error::tensor("the backward pass"))
    }

    fn backward_of(
        &self,
        tape: DeviceTape,
        dlogprob: &Tensor,
        grads: &mut DeviceGradients,
    ) -> Result<()> {
        let pass = self.pass();
        let trains_all = self.adapters.is_none();
        if tape.readers.token.is_empty() {
            return Ok(());
        }
        let mut dx = {
            let normed = pass.norm(&tape.last, self.index.final_norm)?;
            let hidden = normed.index_select(&tape.places, 0)?;
            let head = self.head(&tape.readers);
            let dhead = trains_all.then(|| grads.get(self.index.head));
            let dhidden = head.backward(dlogprob, &hidden, &tape.lse, dhead)?;
            let dnormed = scatter_rows(&dhidden, &tape.places, normed.dim(0)?)?;
            pass.norm_backward(&dnormed, &tape.last, self.index.final_norm, grads)?
        };
        let views = self.views(&tape.views, &tape.angles)?;
        for (number, kept) in tape.layers.into_iter().enumerate().rev() {
            let layer = &self.index.layers[number];
            let view = &views[usize::from(number + 1 == self.index.layers.len())];
            let whole = match kept {
                Kept::Whole(whole) => whole,
                Kept::Input(x) => pass.tape(layer, &x, view)?,
            };
            Computed::count_trained();
            dx = pass.backward(layer, whole, &dx, view, grads)?;
        }
        if trains_all {
            let sum = grads
                .get(self.index.embedding)
                .index_add(&tape.tokens, &dx, 0)?;
            grads.set(self.index.embedding, sum);
        }
        Ok(())
    }

    /// Returns the logits `[positions, vocab]`, row-major, at packed positions. They serve for
    /// checks against another implementation; training and scoring never form them in full.
    pub fn logits(&self, batch: &Packed, positions: &[u32]) -> vintage_model::Result<Vec<f32>> {
        let targets = Targets {
            position: positions.to_vec(),
            token: vec![0; positions.len()],
            temperature: vec![1.0; positions.len()],
        };
        let run = self.run(batch, &targets, drop)?;
        let logits = || -> Result<Vec<f32>> {
            let normed = self.pass().norm(&run.last, self.index.final_norm)?;
            let weight = factor(self.compute.precision, &self.params[self.index.head])?;
            let hidden = normed.index_select(&run.places, 0)?;
            hidden.matmul(&weight.t()?)?.flatten_all()?.to_vec1()
        };
        logits().map_err(Error::tensor("logits"))
    }

    fn run(
        &self,
        batch: &Packed,
        targets: &Targets,
        keep: impl FnMut(LayerTape),
    ) -> vintage_model::Result<Run> {
        batch.check(&self.config)?;
        targets.check(batch.tokens.len(), &self.config)?;
        self.set_products();
        self.run_checked(batch, targets, keep)
            .map_err(Error::tensor("the forward pass"))
    }

    fn run_checked(
        &self,
        batch: &Packed,
        targets: &Targets,
        mut keep: impl FnMut(LayerTape),
    ) -> Result<Run> {
        let readers = Readers::new(targets);
        let views = Views::new(batch, readers.rows.clone());
        let table = Rotations::new(&self.frequencies, batch.longest());
        let angles = Angles::new(&table, &self.device)?;
        let tokens = indices(&batch.tokens, &self.device)?;
        let places = indices(&readers.place, &self.device)?;
        let pass = self.pass();
        let mut x = self.params[self.index.embedding].index_select(&tokens, 0)?;
        if targets.is_empty() {
            let none = Tensor::zeros(0, DType::F32, &self.device)?;
            return Ok(Run {
                scored: DeviceScored {
                    logprob: none.clone(),
                    entropy: none.clone(),
                },
                lse: none,
                last: x,
                tokens,
                views,
                angles,
                readers,
                places,
            });
        }
        let on_device = self.views(&views, &angles)?;
        for (number, layer) in self.index.layers.iter().enumerate() {
            let view = &on_device[usize::from(number + 1 == self.index.layers.len())];
            Computed::count_trained();
            let (y, tape) = pass.forward(layer, &x, view)?;
            keep(tape);
            x = y;
        }
        let hidden = pass
            .norm(&x, self.index.final_norm)?
            .index_select(&places, 0)?;
        let Output {
            logprob,
            entropy,
            lse,
        } = self.head(&readers).forward(&hidden)?;
        Ok(Run {
            scored: DeviceScored {
                logprob: logprob.squeeze(1)?,
                entropy: entropy.squeeze(1)?,
            },
            lse,
            last: x,
            tokens,
            views,
            angles,
            readers,
            places,
        })
    }

    /// Copies the views of all layers but the last, and that of the last layer, to the device.
    fn views<'v>(&self, views: &'v Views, angles: &Angles) -> Result<[View<'v>; 2]> {
        let on_device = |view: &'v parts::View| -> Result<View<'v>> {
            let kept = view.kept.as_ref();
            Ok(View {
                pattern: &view.pattern,
                queries: angles.at(&view.query_positions)?,
                keys: angles.at(&view.key_positions)?,
                kept: kept.map(|kept| indices(kept, &self.device)).transpose()?,
            })
        };
        Ok([on_device(&views.all)?, on_device(&views.last)?])
    }

    /// Sets whether the GPU may compute products in TF32, a setting of the whole process. TF32 is
    /// on if factors are rounded to bf16, and off otherwise.
    fn set_products(&self) {
        let bf16 = self.compute.precision == Precision::Bf16;
        candle_core::cuda::set_gemm_reduced_precision_f32(bf16);
    }
}

struct Run {
    scored: DeviceScored,
    lse: Tensor,
    last: Tensor,
    tokens: Tensor,
    views: Views,
    angles: Angles,
    readers: Readers,
    places: Tensor,
}

/// Copies a host tensor to the device without sharing memory, even if the device is a CPU.
fn on_device(tensor: &Tensor, device: &Device) -> Result<Tensor> {
    let values = values(tensor).map_err(candle_core::Error::wrap)?;
    Tensor::from_slice(&values, tensor.shape(), device)
}
