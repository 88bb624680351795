//! Tensors of a checkpoint that the decoder does not use.

use std::collections::BTreeMap;

use super::Found;
use crate::notes::note_on;
use crate::{
    config::DecoderConfig,
    error::{Error, Result},
};

/// Returns a note on the tensors that are left out, as transformers leaves them out.
///
/// # Errors
/// A tensor is a weight or a bias of one of the decoder's own layers, which would compute something
/// else without it.
pub(super) fn refuse_needed(
    left: &BTreeMap<String, Found<'_>>,
    config: &DecoderConfig,
) -> Result<Option<String>> {
    // The rotary frequencies follow from the config.
    let left = left
        .iter()
        .filter(|(name, _)| !name.ends_with(".rotary_emb.inv_freq"));
    let mut names = Vec::new();
    for (name, tensor) in left {
        if is_of_layer(name, config) && !adds_nothing(name, tensor) {
            return Err(Error::parameter(
                name,
                format!(
                    "shape {:?}, not expected by config.json, and its layer would be another \
                     without it: the model may be of another architecture, or a key of config.json \
                     is missing (attention_bias); in {}",
                    tensor.view.shape(),
                    tensor.file
                ),
            ));
        }
        names.push(name.clone());
    }
    Ok(note_on(
        "tensors of the weights that are no part of this decoder, and were left out",
        &names,
    ))
}

/// Returns true if a tensor is a parameter of a layer that the decoder has.
fn is_of_layer(name: &str, config: &DecoderConfig) -> bool {
    let Some((layer, rest)) = name
        .strip_prefix("model.layers.")
        .and_then(|rest| rest.split_once('.'))
    else {
        return false;
    };
    let known = layer
        .parse::<usize>()
        .is_ok_and(|layer| layer < config.num_hidden_layers);
    known && (["weight", "bias"].contains(&last(rest)) || rest.contains("lora_"))
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Returns true for a bias of zeros, as exports of other formats contain.
fn adds_nothing(name: &str, tensor: &Found<'_>) -> bool {
    last(name) == "bias" && tensor.view.data().iter().all(|byte| *byte == 0)
}
