//! Decoders with low-rank adapters: adding them, and saving and loading them in the files of Hugging
//! Face's PEFT.

use safetensors::SafeTensors;
use serde_json::json;
use vintage_control::{LoraSettings, Precision};
use vintage_delta::PEFT_PREFIX;
use vintage_hub::BaseModel;

use super::Decoder;
use crate::error::{Error, Result};
use crate::layer::index::LayerIndex;
use crate::lora::Adapters;
use crate::params::ParamSet;
use crate::params::load::read;
use crate::params::save::save;

impl Decoder {
    /// Freezes the parameters and adds adapters, which are trained instead. A is drawn from `seed`,
    /// B is 0.
    ///
    /// # Errors
    /// A configuration without effect, or a module that the model does not have.
    pub fn with_adapters(mut self, config: LoraSettings, seed: u64) -> Result<Self> {
        let adapters = Adapters::init(config, &self.params, seed)?;
        self.index.layers = (0..self.index.layers.len())
            .map(|layer| LayerIndex::new(&self.params, Some(&adapters), layer))
            .collect::<Result<_>>()?;
        self.adapters = Some(adapters);
        Ok(self)
    }

    /// Returns the settings of the decoder's adapters; `None` if it has none.
    pub fn lora(&self) -> Option<&LoraSettings> {
        self.adapters.as_ref().map(|adapters| &adapters.config)
    }

    /// Serializes the weights that an engine samples with: one safetensors file of f32, as
    /// [`ParamSet::to_safetensors`] writes it, with adapters merged into the parameters.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        self.to_safetensors_of(Precision::F32)
    }

    /// Serializes the same with values of this precision, each rounded to the nearest one and of two
    /// equally near to the even one.
    pub fn to_safetensors_of(&self, precision: Precision) -> Result<Vec<u8>> {
        save(&self.params, precision, str::to_owned, |name| {
            let delta = self.adapters.as_ref()?.delta(name)?;
            Some(Box::new(move |base: &[f32]| delta.onto(base)))
        })
    }

    /// Returns name and bytes of the files of a PEFT adapter folder: `adapter_model.safetensors`
    /// and `adapter_config.json`. The config names `base` as the model they were trained on. The
    /// list is empty if the decoder has no adapters.
    pub fn peft_files(&self, base: Option<&BaseModel>) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let Some(adapters) = &self.adapters else {
            return Ok(Vec::new());
        };
        let name = |name: &str| format!("{PEFT_PREFIX}{name}");
        let model = save(&adapters.params, Precision::F32, name, |_| None)?;
        Ok(vec![
            ("adapter_model.safetensors", model),
            (
                "adapter_config.json",
                config_json(&adapters.config, base).into_bytes(),
            ),
        ])
    }

    /// Loads the adapters from the bytes of `adapter_model.safetensors`.
    ///
    /// # Errors
    /// The decoder has no adapters, or a tensor is missing, unexpected, misshapen or not finite;
    /// the error names the tensor.
    pub fn load_adapters(&mut self, bytes: &[u8]) -> Result<()> {
        const FILE: &str = "adapter_model.safetensors";
        let Some(adapters) = &mut self.adapters else {
            return Err(Error::Input(format!(
                "loading {FILE}: the decoder has no adapters"
            )));
        };
        let damaged = |problem: String| Error::Weights {
            file: FILE.to_owned(),
            problem,
        };
        let tensors =
            SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
        let specs = adapters.params.specs().to_vec();
        if tensors.len() != specs.len() {
            return Err(damaged(format!(
                "{} tensors, and the settings of learner.lora ask for {}",
                tensors.len(),
                specs.len()
            )));
        }
        adapters.params = ParamSet::of(specs, |spec| {
            let name = format!("{PEFT_PREFIX}{}", spec.name());
            let view = tensors
                .tensor(&name)
                .map_err(|error| Error::parameter(&name, error.to_string()))?;
            read(&name, spec.shape(), &view)
        })?;
        Ok(())
    }
}

/// Returns the contents of `adapter_config.json`.
fn config_json(lora: &LoraSettings, base: Option<&BaseModel>) -> String {
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.map(|base| &base.name_or_path),
        "revision": base.and_then(|base| base.revision.as_ref()),
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "target_modules": lora.target_modules,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "use_rslora": false,
        "use_dora": false,
        "modules_to_save": null,
        "inference_mode": true,
    });
    format!("{config:#}\n")
}
