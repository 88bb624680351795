//! Words before an announcing phrase that deny it or make it a supposition.

/// Meaning that the words before an announcing phrase give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    Asserting,
    /// The announced value is no answer: “wrong answer: 24”, “it is impossible that the answer is
    /// 24”.
    Denying,
    /// Nothing is announced: “if the answer is 24”, “confidence in the answer: 95%”.
    Supposing,
}

/// Maximum number of bytes of a lead that are read.
const LONGEST: usize = 200;
const ENDS: [&str; 4] = ["\n", ". ", "! ", "? "];
const PARTS: [&str; 13] = [
    ": ",
    "; ",
    ", ",
    " so ",
    " but ",
    " therefore ",
    " thus ",
    " hence ",
    " then ",
    " because ",
    " since ",
    " and ",
    ":** ",
];
/// Words with a denial that deny nothing.
const HARMLESS: [&str; 9] = [
    "not hard",
    "not difficult",
    "not too hard",
    "not surprising",
    "not surprisingly",
    "not only",
    "no doubt",
    "without doubt",
    "without a doubt",
];
const DENYING: [&str; 24] = [
    "not",
    "cannot",
    "can't",
    "isn't",
    "don't",
    "doesn't",
    "never",
    "wrong",
    "incorrect",
    "false",
    "impossible",
    "unlikely",
    "doubt",
    "mistaken",
    "erroneous",
    "invalid",
    "tempting",
    "naive",
    "previous",
    "earlier",
    "initial",
    "old",
    "wasn't",
    "won't",
];
const SUPPOSING: [&str; 14] = [
    "if",
    "whether",
    "suppose",
    "supposing",
    "assume",
    "assuming",
    "imagine",
    "pretend",
    "unless",
    "confidence",
    "certainty",
    "probability",
    "likelihood",
    "odds",
];

/// Returns what the words before the phrase at byte `begin` make of it; `lower` is in lower case.
pub(crate) fn lead(lower: &str, begin: usize) -> Lead {
    let mut start = begin.saturating_sub(LONGEST);
    while !lower.is_char_boundary(start) {
        start += 1;
    }
    let sentence = behind(&lower[start..begin], &ENDS);
    let part = behind(sentence, &PARTS);
    // What comes before “that the answer is” belongs to it.
    let part = if part.trim_start().starts_with("that ") {
        sentence
    } else {
        part
    };
    let mut part = part.replace('’', "'");
    for words in HARMLESS {
        part = part.replace(words, "");
    }
    let mut words = part.split(|c: char| !c.is_alphabetic() && c != '\'');
    let mut lead = Lead::Asserting;
    for word in &mut words {
        if SUPPOSING.contains(&word) {
            return Lead::Supposing;
        }
        if DENYING.contains(&word) {
            lead = Lead::Denying;
        }
    }
    lead
}

/// Part of a text behind the last of some ends.
fn behind<'a>(text: &'a str, ends: &[&str]) -> &'a str {
    let ends = ends.iter();
    let begin = ends.filter_map(|end| Some(text.rfind(end)? + end.len()));
    &text[begin.max().unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use super::{Lead, lead};

    #[test]
    fn words_before_an_announcement_deny_or_suppose_it() {
        for (text, expected) in [
            ("the ", Lead::Asserting),
            ("it is not 4. the ", Lead::Asserting),
            ("it cannot be 4, so the ", Lead::Asserting),
            ("it is not hard to see that the ", Lead::Asserting),
            ("if 4 boxes are full, the ", Lead::Asserting),
            ("the wrong ", Lead::Denying),
            ("it is impossible that the ", Lead::Denying),
            ("it is impossible, i think, that the ", Lead::Denying),
            ("i don’t think the ", Lead::Denying),
            ("if bob's ", Lead::Supposing),
            ("what if the ", Lead::Supposing),
            ("confidence in the ", Lead::Supposing),
        ] {
            assert_eq!(lead(text, text.len()), expected, "{text:?}");
        }
    }
}
