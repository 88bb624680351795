use serde_json::{Map, Value};

use super::{DecoderConfig, Llama3Scaling, ModelType};
use crate::error::{Error, Result};

impl DecoderConfig {
    /// Parses `config.json`.
    ///
    /// # Errors
    /// A key is missing, of the wrong type, or asks for something that this crate does not support;
    /// the error names the key.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self> {
        let source: Value = serde_json::from_slice(json.as_ref())
            .map_err(|error| Error::config("(whole file)", format!("no valid JSON: {error}")))?;
        let Value::Object(source) = source else {
            return Err(Error::config("(whole file)", "not a JSON object"));
        };
        let keys = Keys {
            map: &source,
            prefix: "",
        };
        let model_type = model_type(&keys)?;
        refuse_unsupported(&keys, model_type)?;
        let hidden_size = keys.count("hidden_size")?;
        let heads = keys.count("num_attention_heads")?;
        // Qwen3's published default does not follow from the hidden size.
        let default_head_dim = if model_type == ModelType::Qwen3 {
            128
        } else {
            hidden_size / heads
        };
        let (rope_theta, rope_scaling) = rope(&keys)?;
        let attention_bias = match model_type {
            ModelType::Qwen2 => true,
            _ => keys.flag("attention_bias", false)?,
        };
        let config = Self {
            model_type,
            vocab_size: keys.count("vocab_size")?,
            hidden_size,
            intermediate_size: keys.count("intermediate_size")?,
            num_hidden_layers: keys.count("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: keys.count_or("num_key_value_heads", heads)?,
            head_dim: keys.count_or("head_dim", default_head_dim)?,
            rope_theta,
            rope_scaling,
            // Defaults of transformers, for published configs that leave the key out.
            rms_norm_eps: keys.number_or("rms_norm_eps", 1e-6)?,
            tie_word_embeddings: keys.flag("tie_word_embeddings", false)?,
            attention_bias,
            attention_output_bias: attention_bias && model_type != ModelType::Qwen2,
            qk_norm: model_type == ModelType::Qwen3,
            max_position_embeddings: context(&keys, model_type)?,
            eos_token_id: token_ids(&keys, "eos_token_id")?,
            source: source.clone(),
        };
        // Far above any published model; a larger number means that the file is damaged.
        if config.num_hidden_layers > 4096 {
            return Err(Error::config(
                "num_hidden_layers",
                format!("{} is more than 4096", config.num_hidden_layers),
            ));
        }
        if heads % config.num_key_value_heads != 0 {
            return Err(Error::config(
                "num_key_value_heads",
                format!(
                    "{} does not divide {heads} attention heads",
                    config.num_key_value_heads
                ),
            ));
        }
        if config.head_dim == 0 || !config.head_dim.is_multiple_of(2) {
            return Err(Error::config(
                "head_dim",
                format!("{} is not an even number above 0", config.head_dim),
            ));
        }
        Ok(config)
    }
}

/// Reads the token ids under `key` of a JSON object, where the value is absent, null, one id or a
/// list.
pub(crate) fn token_ids_in(source: &Map<String, Value>, key: &str) -> Result<Vec<u32>> {
    token_ids(
        &Keys {
            map: source,
            prefix: "",
        },
        key,
    )
}

fn model_type(keys: &Keys<'_>) -> Result<ModelType> {
    let value = keys.get("model_type").and_then(Value::as_str);
    match value {
        Some("llama") => Ok(ModelType::Llama),
        Some("mistral") => Ok(ModelType::Mistral),
        Some("qwen2") => Ok(ModelType::Qwen2),
        Some("qwen3") => Ok(ModelType::Qwen3),
        Some(other) => Err(keys.wrong(
            "model_type",
            format!("{other:?} is not supported; use a llama, mistral, qwen2 or qwen3 model"),
        )),
        None => Err(keys.wrong("model_type", "missing or no string")),
    }
}

fn refuse_unsupported(keys: &Keys<'_>, model_type: ModelType) -> Result<()> {
    // Classifiers and embedding models share the layers but not the head.
    let ours = model_type.architecture();
    if let Some(named) = keys.get("architectures")
        && !named
            .as_array()
            .is_some_and(|named| named.iter().any(|name| name == ours))
    {
        return Err(keys.wrong(
            "architectures",
            format!("{named} is not supported, only [{ours:?}] for this model_type"),
        ));
    }
    let act = keys
        .get("hidden_act")
        .and_then(Value::as_str)
        .unwrap_or("silu");
    if act != "silu" {
        return Err(keys.wrong(
            "hidden_act",
            format!("{act:?} is not supported, only \"silu\""),
        ));
    }
    for key in ["mlp_bias", "use_sliding_window"] {
        if keys.flag(key, false)? {
            return Err(keys.wrong(key, "true is not supported"));
        }
    }
    let types = keys
        .get("layer_types")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    if let Some(other) = types
        .clone()
        .find(|kind| kind.as_str() != Some("full_attention"))
    {
        return Err(keys.wrong(
            "layer_types",
            format!("{other} is not supported, only \"full_attention\""),
        ));
    }
    // Qwen's configs have a window that `use_sliding_window = false` turns off.
    let context = context(keys, model_type)?;
    let window = keys.get("sliding_window").and_then(Value::as_u64);
    if let (ModelType::Mistral | ModelType::Llama, Some(window)) = (model_type, window)
        && (window as usize) < context
    {
        return Err(keys.wrong(
            "sliding_window",
            format!("a window of {window} under the context of {context} is not supported"),
        ));
    }
    if keys.get("quantization_config").is_some() {
        return Err(keys.wrong("quantization_config", "quantised weights are not supported"));
    }
    Ok(())
}

/// Reads the maximum context length; without the key, transformers' default for the family.
fn context(keys: &Keys<'_>, model_type: ModelType) -> Result<usize> {
    let default = match model_type {
        ModelType::Llama => 2048,
        ModelType::Mistral => 131_072,
        ModelType::Qwen2 | ModelType::Qwen3 => 32_768,
    };
    keys.count_or("max_position_embeddings", default)
}

/// Reads base and scaling, from `rope_theta` + `rope_scaling` or transformers 5's
/// `rope_parameters`.
fn rope(keys: &Keys<'_>) -> Result<(f64, Option<Llama3Scaling>)> {
    let (key, value) = match keys.get("rope_parameters") {
        Some(value) => ("rope_parameters", Some(value)),
        None => ("rope_scaling", keys.get("rope_scaling")),
    };
    let Some(value) = value else {
        return Ok((keys.number_or("rope_theta", 10_000.0)?, None));
    };
    let Value::Object(map) = value else {
        return Err(keys.wrong(key, "not an object"));
    };
    // The value may be given per kind of layer, of which only one is supported.
    let (map, prefix) = match map.get("full_attention") {
        Some(Value::Object(inner)) => (inner, format!("{key}.full_attention.")),
        _ => (map, format!("{key}.")),
    };
    if let Some((other, _)) = map.iter().find(|(_, value)| value.is_object()) {
        let problem = "an object of its own is not supported";
        return Err(keys.wrong(&format!("{key}.{other}"), problem));
    }
    let inner = Keys {
        map,
        prefix: &prefix,
    };
    let theta = match inner.get("rope_theta") {
        Some(_) => inner.number("rope_theta")?,
        None => keys.number_or("rope_theta", 10_000.0)?,
    };
    if inner.number_or("partial_rotary_factor", 1.0)? != 1.0 {
        return Err(inner.wrong("partial_rotary_factor", "only 1 is supported"));
    }
    let named = inner.get("rope_type").or_else(|| inner.get("type"));
    match named.and_then(Value::as_str) {
        None | Some("default") => Ok((theta, None)),
        Some("llama3") => Ok((
            theta,
            Some(Llama3Scaling {
                factor: inner.number("factor")?,
                low_freq_factor: inner.number("low_freq_factor")?,
                high_freq_factor: inner.number("high_freq_factor")?,
                original_max_position_embeddings: inner
                    .count("original_max_position_embeddings")?,
            }),
        )),
        Some(other) => Err(inner.wrong(
            "rope_type",
            format!("{other:?} is not supported, only \"default\" and \"llama3\""),
        )),
    }
}

fn token_ids(keys: &Keys<'_>, key: &str) -> Result<Vec<u32>> {
    let id = |value: &Value| {
        value
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| keys.wrong(key, format!("{value} is no token id")))
    };
    match keys.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(id).collect(),
        Some(one) => Ok(vec![id(one)?]),
    }
}

struct Keys<'a> {
    map: &'a Map<String, Value>,
    prefix: &'a str,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::config(&format!("{}{key}", self.prefix), problem)
    }

    fn count(&self, key: &str) -> Result<usize> {
        let value = self.get(key).ok_or_else(|| self.wrong(key, "missing"))?;
        // 2^31 keeps every product of two sizes within 64 bits.
        match value.as_u64() {
            Some(count) if (1..1 << 31).contains(&count) => Ok(count as usize),
            _ => Err(self.wrong(key, format!("{value} is no count from 1 to 2^31"))),
        }
    }

    fn count_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.get(key).is_some() {
            self.count(key)
        } else {
            Ok(default)
        }
    }

    fn number(&self, key: &str) -> Result<f64> {
        let value = self.get(key).ok_or_else(|| self.wrong(key, "missing"))?;
        match value.as_f64() {
            Some(number) if number > 0.0 && number.is_finite() => Ok(number),
            _ => Err(self.wrong(key, format!("{value} is no number above 0"))),
        }
    }

    fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        if self.get(key).is_some() {
            self.number(key)
        } else {
            Ok(default)
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.wrong(key, format!("{value} is no boolean"))),
        }
    }
}
