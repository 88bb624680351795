//! Names of tensors as people's programs save them, and what they are called here.

use std::collections::BTreeSet;

/// Wrappers of PyTorch's that leave their name in the middle of others.
const WRAPPERS: [&str; 4] = [
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
];

/// A tensor that every decoder has, and where the rest of the decoder begins in its name.
const ANCHOR: &str = "layers.0.input_layernorm.weight";
/// What stands before it, as the names are here.
const MODEL: &str = "model.";
const HEAD: &str = "lm_head.weight";

/// How the names of one model's tensors read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// What stands before the decoder's own names.
    decoder: String,
    /// What the head is called, if it is one tensor.
    head: Option<String>,
}

impl Names {
    /// How these names read: the decoder is where its first layer is.
    ///
    /// # Errors
    /// The prefixes, where there are several decoders and none is called `model`.
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
            // The one beside the decoder.
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

    /// What a tensor is called here.
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

    /// What a user should know: which names were read as others.
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

/// Whether what is behind a decoder's prefix can be of the decoder: without a prefix everything is
/// behind it.
fn is_of_decoder(rest: &str) -> bool {
    ["layers.", "embed_tokens.", "norm."]
        .iter()
        .any(|own| rest.starts_with(own))
}

/// A name without the wrappers in it.
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
        // The decoder without what is around it.
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
