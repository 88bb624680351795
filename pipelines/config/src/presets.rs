//! Presets that ship with the program, and their data.

/// Name and TOML text of every preset.
const PRESETS: [(&str, &str); 5] = [
    ("default", include_str!("../../presets/default.toml")),
    ("lora", include_str!("../../presets/lora.toml")),
    ("pretrained", include_str!("../../presets/pretrained.toml")),
    ("remix", include_str!("../../presets/remix.toml")),
    ("stale-256", include_str!("../../presets/stale-256.toml")),
];

/// Names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// Returns the TOML text of a preset.
pub fn find(name: &str) -> Option<&'static str> {
    PRESETS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

/// Returns the first sentence of a preset's introduction.
pub fn summary(name: &str) -> Option<String> {
    let lines = find(name)?.lines();
    let introduction = lines.map_while(|line| line.strip_prefix('#'));
    let introduction: Vec<_> = introduction.map(str::trim).collect();
    let introduction = introduction.join(" ");
    let sentence = introduction.split_once(". ");
    Some(
        sentence
            .map_or(introduction.as_str(), |(first, _)| first)
            .to_owned(),
    )
}

/// Data files that presets refer to, by path below `presets/`.
const DATA: [(&str, &str); 2] = [
    (
        "chain6/train.jsonl",
        include_str!("../../presets/chain6/train.jsonl"),
    ),
    (
        "chain6/heldout.jsonl",
        include_str!("../../presets/chain6/heldout.jsonl"),
    ),
];

/// Returns the text of a data file, by its path below `presets/`.
pub fn data(path: &str) -> Option<&'static str> {
    DATA.iter()
        .find(|(known, _)| *known == path)
        .map(|(_, text)| *text)
}
