//! Text in bold, which Markdown sets between `**`.

use crate::{boxes::joins, sentence::trimmed};

/// Returns the last text in bold that is not a label, without decoration.
pub(crate) fn bold(text: &str) -> Option<&str> {
    let mut pieces = text.rsplit("**");
    pieces.next()?;
    let marks = text.matches("**").count();
    let mut inside = if marks.is_multiple_of(2) {
        pieces.next()?
    } else {
        pieces.nth(1)?
    };
    loop {
        let said = trimmed(inside);
        if !(said.is_empty() || inside.trim_end().ends_with([':', '：'])) {
            return Some(said);
        }
        pieces.next()?;
        inside = pieces.next()?;
    }
}

/// Returns true if the last two texts in bold are alternatives of one kind: `**24** or **25**`,
/// `**A**, **B**`. The same text twice does not count.
pub(crate) fn is_bold_guess(text: &str) -> bool {
    let pieces: Vec<_> = text.split("**").collect();
    // Every other piece is in bold; a sentence may have lost its first mark.
    pieces.len() > 2 && [1, 0].into_iter().any(|first| alternatives(&pieces, first))
}

fn alternatives(pieces: &[&str], first: usize) -> bool {
    let said: Vec<_> = (first..pieces.len())
        .step_by(2)
        .filter(|at| !trimmed(pieces[*at]).is_empty())
        .collect();
    let [.., before, last] = said.as_slice() else {
        return false;
    };
    let (a, b) = (trimmed(pieces[*before]), trimmed(pieces[*last]));
    let between = pieces[before + 1..*last].concat();
    let label = pieces[*before].trim_end().ends_with([':', '：']);
    let computes = between.contains(['×', '*', '·', '÷', ':', '−']);
    let alike = if first == 1 {
        is_value(a) == is_value(b)
    } else {
        is_value(a) && is_value(b)
    };
    a != b && !label && alike && joins(&between) && !computes
}

/// Returns true for a letter of a choice.
pub(crate) fn is_letter(text: &str) -> bool {
    let letter = text.trim_matches(['(', ')', ' ']);
    letter.len() == 1 && letter.starts_with(|c: char| c.is_ascii_uppercase())
}

/// Returns true for a text that is an answer where it is emphasised: a number, a formula, a letter.
pub(crate) fn is_value(text: &str) -> bool {
    is_letter(text) || text.contains(|c: char| c.is_numeric() || c == '$' || c == '\\')
}

#[cfg(test)]
mod tests {
    use super::{bold, is_bold_guess};

    #[test]
    fn the_last_text_in_bold_is_found() {
        assert_eq!(bold("**Total:** it is **24**."), Some("24"));
        assert_eq!(bold("**24** is the **Total:**"), Some("24"));
        assert_eq!(bold("none"), None);
    }

    #[test]
    fn several_texts_in_bold_are_a_guess() {
        for guess in [
            "**A**, **B**",
            "**A** **B**",
            "**A**/**B**",
            "**A** and **B**",
            "**24** or **25**",
            "it is **Paris**, maybe **London**",
            "A**, **B",
            "24** **25",
        ] {
            assert!(is_bold_guess(guess), "{guess:?}");
        }
        for certain in [
            "**24**",
            "**24** **pens**",
            "**Total:** **24**",
            "**4** × **6** = **24**",
            "**4** boxes, so **24** pens",
            "**24**, **24**",
        ] {
            assert!(!is_bold_guess(certain), "{certain:?}");
        }
    }
}
