//! Mapping of the tensor names that training programs save to the names used here.

use std::collections::BTreeSet;

/// PyTorch wrappers that insert their names into those of tensors.
const WRAPPERS: [&str; 4] = [
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
];

/// End of the name of a tensor that every decoder has. The decoder's prefix is the part before it.
const ANCHOR: &str = "layers.0.input_layernorm.weight";
/// Prefix of the decoder's tensors in the names used here.
const MODEL: &str = "model.";
const HEAD: &str = "lm_head.weight";

/// Naming scheme of one checkpoint's tensors.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// Prefix of the decoder's own tensors.
    decoder: String,
    /// Name of the head's tensor, if there is exactly one beside the decoder.
    head: Option<String>,
}

impl Names {
    /// Detects the naming scheme; the decoder's prefix is that of its first layer.
    ///
    /// # Errors
    /// Several decoders exist and none has the prefix `model.`; the error lists the prefixes.
    pub(super) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let plain: BTreeSet<_> = names.into_iter().map(unwrapped).collect();
        let before = |ending: &str| -> Vec<&str> {
            let prefixes = plain.iter().filter_map(|name| name.strip_suffix(ending));
            prefixes
                .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
                .collect()
        };
        let decoder = match before(ANCHOR)[..] {
            [] => MODEL,
            [one] => one,
            ref several if several.contains(&MODEL) => MODEL,
            ref several => return Err(several.join(", ")),
        };
        let heads = before(HEAD);
        let head = match heads[..] {
            [one] => Some(format!("{one}{HEAD}")),
            // Of several heads, the one beside the decoder.
            ref several => {
                let beside = decoder.strip_suffix(MODEL).unwrap_or(decoder);
                let found = several.iter().find(|prefix| **prefix == beside);
                found.map(|prefix| format!("{prefix}{HEAD}"))
            }
        };
        Ok(Self {
            decoder: decoder.to_owned(),
            head,
        })
    }

    /// Returns the name used here for a tensor.
    pub(super) fn read(&self, name: &str) -> String {
        let plain = unwrapped(name);
        if self.head.as_deref() == Some(&plain) {
            return HEAD.to_owned();
        }
        match plain.strip_prefix(&self.decoder) {
            Some(rest) if self.decoder != MODEL && is_of_decoder(rest) => format!("{MODEL}{rest}"),
            _ => plain,
        }
    }

    /// Returns a note for the user on names that were mapped to others.
    pub(super) fn note(&self) -> Option<String> {
        (self.decoder != MODEL).then(|| {
            format!(
                "the weights call the decoder's tensors {:?}, which is read as {:?}",
                format!("{}layers.0.…", self.decoder),
                format!("{MODEL}layers.0.…")
            )
        })
    }
}

/// Returns true if the part of a name after the decoder's prefix can belong to the decoder. The
/// prefix may be empty, and then every name has it.
fn is_of_decoder(rest: &str) -> bool {
    ["layers.", "embed_tokens.", "norm."]
        .iter()
        .any(|own| rest.starts_with(own))
}

/// Removes the wrappers' names from a name.
fn unwrapped(name: &str) -> String {
    let parts = name.split('.').filter(|part| !WRAPPERS.contains(part));
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [&str; 4] = [
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.norm.weight",
        "lm_head.weight",
    ];

    fn read(names: &[&str]) -> Vec<String> {
        let found = Names::of(names.iter().copied()).unwrap();
        names.iter().map(|name| found.read(name)).collect()
    }

    #[test]
    fn names_under_a_prefix_or_without_one_are_read_as_their_own() {
        for prefix in [
            "",
            "module.",
            "_orig_mod.",
            "base_model.model.",
            "pretrained_model.",
            "language_model.",
        ] {
            let named = OWN.map(|name| format!("{prefix}{name}"));
            assert_eq!(read(&named.each_ref().map(String::as_str)), OWN, "{prefix}");
        }
        // A decoder alone, without head and outer prefix.
        let bare = [
            "embed_tokens.weight",
            "layers.0.input_layernorm.weight",
            "norm.weight",
        ];
        assert_eq!(read(&bare), OWN[..3]);
        let inside = "model.layers.0._checkpoint_wrapped_module.input_layernorm.weight";
        assert_eq!(read(&[inside]), [OWN[1]]);
    }

    #[test]
    fn what_is_beside_the_decoder_keeps_its_name() {
        let names = [
            "model.language_model.layers.0.input_layernorm.weight",
            "model.language_model.embed_tokens.weight",
            "model.visual.blocks.0.norm1.weight",
            "lm_head.weight",
        ];
        assert_eq!(read(&names), [OWN[1], OWN[0], names[2], OWN[3]]);
        let two = [
            "actor.layers.0.input_layernorm.weight",
            "critic.layers.0.input_layernorm.weight",
        ];
        assert_eq!(Names::of(two).unwrap_err(), "actor., critic.");
        let with_draft = [OWN[1], "draft.layers.0.input_layernorm.weight"];
        assert_eq!(read(&with_draft), with_draft);
    }
}
