//! Words that multiply the number before them: `million`, `dozen`, `thirds`.

/// Factor of a scale word: numerator and denominator.
pub(crate) type Factor = (u64, u64);

const WORDS: [(&str, Factor); 20] = [
    ("hundred", (100, 1)),
    ("hundreds", (100, 1)),
    ("thousand", (1_000, 1)),
    ("thousands", (1_000, 1)),
    ("million", (1_000_000, 1)),
    ("millions", (1_000_000, 1)),
    ("billion", (1_000_000_000, 1)),
    ("billions", (1_000_000_000, 1)),
    ("trillion", (1_000_000_000_000, 1)),
    ("trillions", (1_000_000_000_000, 1)),
    ("dozen", (12, 1)),
    ("dozens", (12, 1)),
    // The singular is an ordinal too (“24 third graders”); quarters are coins and halves are of
    // games.
    ("thirds", (1, 3)),
    ("fifths", (1, 5)),
    ("sixths", (1, 6)),
    ("sevenths", (1, 7)),
    ("eighths", (1, 8)),
    ("ninths", (1, 9)),
    ("tenths", (1, 10)),
    ("hundredths", (1, 100)),
];
/// Chinese and Japanese scales, which follow the digits directly.
const SIGNS: [(&str, Factor); 4] = [
    ("万", (10_000, 1)),
    ("萬", (10_000, 1)),
    ("亿", (100_000_000, 1)),
    ("億", (100_000_000, 1)),
];
/// LaTeX commands that set a word.
const SET: [&str; 4] = ["\\text{", "\\mathrm{", "\\textbf{", "\\mbox{"];

/// Factor that a word means, in upper or lower case.
pub(crate) fn factor(word: &str) -> Option<Factor> {
    let found = WORDS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word));
    found.map(|(_, factor)| *factor)
}

/// Takes a scale word at the beginning of the text behind a number: its factor, and the text behind
/// it.
pub(crate) fn take(rest: &str) -> Option<(Factor, &str)> {
    for (sign, factor) in SIGNS {
        if let Some(behind) = rest.strip_prefix(sign) {
            return Some((factor, behind));
        }
    }
    let mut inner = rest.strip_prefix('-').unwrap_or(rest);
    loop {
        let mut gaps = ["\\ ", "\\,", "~", " ", "\u{a0}"].iter();
        match gaps.find_map(|gap| inner.strip_prefix(gap)) {
            Some(behind) => inner = behind,
            None => break,
        }
    }
    let set = SET.iter().find_map(|command| inner.strip_prefix(command));
    let word = set.map_or(inner, |inside| inside.trim_start_matches([' ', '~', '-']));
    let end = word
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(word.len());
    let (word, behind) = word.split_at(end);
    let factor = factor(word)?;
    let behind = match set {
        Some(_) => behind.strip_prefix('}').unwrap_or(behind),
        None => behind,
    };
    Some((factor, behind))
}

#[cfg(test)]
mod tests {
    use super::take;

    #[test]
    fn a_scale_is_a_word_behind_the_number() {
        for (rest, factor, behind) in [
            (" million", (1_000_000, 1), ""),
            ("-Million dollars", (1_000_000, 1), " dollars"),
            ("\\text{ million}", (1_000_000, 1), ""),
            ("\\,\\text{million USD}", (1_000_000, 1), " USD}"),
            (" dozen eggs", (12, 1), " eggs"),
            (" thirds", (1, 3), ""),
            ("万元", (10_000, 1), "元"),
        ] {
            assert_eq!(take(rest), Some((factor, behind)), "{rest:?}");
        }
        for none in [
            "",
            " pens",
            " millionaires",
            " third graders",
            " quarters",
            ", million",
        ] {
            assert_eq!(take(none), None, "{none:?}");
        }
    }
}
