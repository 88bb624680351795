//! Suggestions for misspelt names ("did you mean").

use crate::key::Key;

/// Similarity (0 to 1) below which a suggestion would only confuse.
const NEAR: f64 = 0.6;

/// The most alike of `known`, if any is alike enough.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    best(
        known
            .into_iter()
            .map(|other| (other, likeness(name, other))),
    )
}

/// The most alike settings; several if they are equally near, none if none is near. A right
/// last part in the wrong section counts nearly as much as a right whole: `--set lr=1e-3`
/// means `learner.optimizer.lr` or `warm_start.lr`.
pub(crate) fn nearest_keys(key: &Key, known: &[Key]) -> Vec<Key> {
    let name = key.to_string();
    let scored: Vec<_> = known
        .iter()
        .map(|other| {
            let whole = likeness(&name, &other.to_string());
            let same_section = key.parts().len() > 1 && key.prefix(1) == other.prefix(1);
            let last = likeness(key.last(), other.last()) * if same_section { 0.95 } else { 0.9 };
            (other, whole.max(last))
        })
        .collect();
    let best = scored
        .iter()
        .fold(NEAR, |best, (_, score)| best.max(*score));
    scored
        .into_iter()
        .filter(|(_, score)| *score >= best)
        .map(|(key, _)| key.clone())
        .collect()
}

fn likeness(a: &str, b: &str) -> f64 {
    let fold = |text: &str| text.to_lowercase().replace('-', "_");
    let (a, b) = (fold(a), fold(b));
    let likeness = strsim::normalized_damerau_levenshtein(&a, &b);
    // A missing end, as in `stale` for `stale-256`, weighs less than a wrong character.
    let begun = a.chars().count() >= 4 && b.starts_with(&a);
    if begun { likeness.max(0.75) } else { likeness }
}

fn best<T>(scored: impl Iterator<Item = (T, f64)>) -> Option<T> {
    scored
        .filter(|(_, score)| *score >= NEAR)
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
        .map(|(name, _)| name)
}
