//! Phrases that announce an answer.

use crate::{
    lead::{Lead, lead},
    sentence::{clause, first_sentence, trimmed},
    stance::{Stance, stance},
    stated::stated_number,
};

/// Last announcement of a text.
pub(crate) enum AnnouncedAnswer<'a> {
    /// Sentence that states the answer.
    Answer(&'a str),
    /// Denial: the sentence says only what the answer is not.
    Denied,
}

/// Announcing phrases in lower case, apart from those with the word “answer”.
const PHRASES: [&str; 18] = [
    "option is",
    "option:",
    "choice is",
    "choice:",
    "答案是",
    "答案为",
    "答案為",
    "答案：",
    "答案:",
    "故选",
    "應選",
    "réponse est",
    "respuesta es",
    "antwort ist",
    "antwort lautet",
    "ответ:",
    "答えは",
    "정답은",
];
/// Verbs that, after the word “answer”, introduce the answer.
const VERBS: [&str; 13] = [
    "is",
    "are",
    "was",
    "equals",
    "would be",
    "will be",
    "should be",
    "must be",
    "has to be",
    "comes to",
    "comes out to",
    "turns out to be",
    "becomes",
];
/// First words of an announcement that gives no answer, such as “the answer is correct”.
const TALK: [&str; 15] = [
    "correct",
    "right",
    "reasonable",
    "verified",
    "confirmed",
    "consistent",
    "valid",
    "clear",
    "obvious",
    "indeed",
    "plausible",
    "unique",
    "in",
    "supposed",
    "sensible",
];
/// Words between the announcement and the answer on the next line.
const LEADING: [&str; 10] = [
    "as follows",
    "given by",
    "the following",
    "therefore",
    "thus",
    "then",
    "below",
    "simply",
    "just",
    "that",
];
/// Returns the last announcement of a text that gives or denies an answer; if there is none, the
/// last one that gives no answer (“the answer is correct”).
pub(crate) fn announced(text: &str) -> Option<AnnouncedAnswer<'_>> {
    let lower = text.to_ascii_lowercase();
    let mut talk = None;
    // Sentence that is said to be no answer: “wrong answer: 24”.
    let mut wrong = None;
    for (begin, end) in ends(text, &lower) {
        let lead = lead(&lower, begin);
        if lead == Lead::Supposing {
            continue;
        }
        let Some((sentence, rest)) = said(text, end) else {
            continue;
        };
        if lead == Lead::Denying {
            wrong = wrong.or(Some(sentence));
            continue;
        }
        if compared(&text[end..]) {
            return Some(AnnouncedAnswer::Denied);
        }
        let would = lower[begin..end].trim_end().ends_with("would be");
        let part = match stance(sentence, would) {
            Stance::Supposed => continue,
            Stance::Denied => return Some(AnnouncedAnswer::Denied),
            Stance::Said(part) => part,
        };
        if is_talk(sentence) {
            talk = talk.or(Some(sentence));
            continue;
        }
        let corrected = correction(rest);
        let same =
            |wrong: &str| stated_number(wrong).is_some_and(|w| stated_number(part) == Some(w));
        if corrected.is_none() && (is_retracted(rest) || wrong.is_some_and(same)) {
            return Some(AnnouncedAnswer::Denied);
        }
        return Some(AnnouncedAnswer::Answer(corrected.unwrap_or(part)));
    }
    match (talk, wrong) {
        (Some(talk), _) => Some(AnnouncedAnswer::Answer(talk)),
        // What is said beside a wrong answer need not be the right one.
        (None, Some(_)) => Some(AnnouncedAnswer::Denied),
        (None, None) => None,
    }
}

/// Returns true if the text behind an announcement is a comparison: `> 24`. On a line of its own `>`
/// begins a quotation, and `<b>` is HTML.
fn compared(rest: &str) -> bool {
    let mut signs = rest
        .trim_start_matches([' ', '*', '_', '`', ':', '$'])
        .chars();
    let (sign, behind) = (signs.next(), signs.next());
    let html = behind.is_some_and(|c| c.is_alphabetic() || c == '/');
    matches!(sign, Some('>' | '<' | '≤' | '≥' | '≠')) && !html
}

/// Returns the sentence that the content of a box announces as the answer, without the brace of the
/// command around the words: `24` of `\text{The answer is } 24`.
pub(crate) fn announced_in_box(content: &str) -> Option<&str> {
    let Some(AnnouncedAnswer::Answer(sentence)) = announced(content) else {
        return None;
    };
    let said = sentence.trim_start_matches(['}', ' ', '~']);
    let braces = |brace| said.matches(brace).count();
    let unclosed = braces('}') > braces('{');
    let inside = said.strip_suffix('}').filter(|_| unclosed);
    Some(inside.unwrap_or(said))
}

/// Returns true if the text after an announcement takes it back: “The answer is 24. That is wrong.”
fn is_retracted(rest: &str) -> bool {
    let begin = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
    let lower: String = begin.chars().take(40).collect::<String>().to_lowercase();
    let mut judged = ["that is ", "that's ", "that’s ", "this is ", "which is "].iter();
    let judged = judged.find_map(|words| lower.strip_prefix(*words));
    let wrong = [
        "wrong",
        "incorrect",
        "false",
        "not right",
        "not correct",
        "a mistake",
    ];
    judged.is_some_and(|judged| wrong.iter().any(|word| judged.starts_with(word)))
}

/// Begin and end offsets of the announcing phrases, from the last to the first.
fn ends<'a>(text: &'a str, lower: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
    let answers = lower.rmatch_indices("answer");
    let answers = answers.filter_map(move |(at, word)| {
        let end = phrase_end(text, lower, at, at + word.len())?;
        Some((at, end))
    });
    let mut phrases: Vec<(usize, usize)> = Vec::new();
    for phrase in PHRASES {
        let found = lower.match_indices(phrase);
        phrases.extend(found.map(|(at, _)| (at, at + phrase.len())));
    }
    phrases.sort_unstable_by_key(|&(_, end)| end);
    let mut answers = answers.peekable();
    std::iter::from_fn(move || match (answers.peek(), phrases.last()) {
        (Some((_, a)), Some((_, b))) if a < b => phrases.pop(),
        (None, _) => phrases.pop(),
        _ => answers.next(),
    })
}

/// End offset of a phrase with the word “answer”, if it announces an answer.
fn phrase_end(text: &str, lower: &str, begin: usize, end: usize) -> Option<usize> {
    if lower[..begin].ends_with(char::is_alphanumeric) {
        return None;
    }
    let markup = |c: char| {
        matches!(
            c,
            ' ' | '*' | '_' | '`' | '#' | '"' | '\'' | ')' | '”' | '\u{a0}'
        )
    };
    let rest = &lower[end..];
    let rest = rest.strip_prefix('s').unwrap_or(rest);
    let rest = rest.strip_prefix("(s)").unwrap_or(rest);
    let rest = rest.trim_start_matches(markup);
    // Example: “The answer (in cm) is …”
    let aside = rest
        .strip_prefix('(')
        .and_then(|inside| Some((inside, inside.find(')')?)));
    let aside = aside.filter(|(_, end)| *end <= 40);
    let rest = aside.map_or(rest, |(inside, end)| {
        inside[end..].trim_start_matches(markup)
    });
    let at = lower.len() - rest.len();
    for sign in [":", "：", "=>", "->", "=", "→", "⇒", "—", "–", "- "] {
        if rest.starts_with(sign) {
            return Some(at + sign.len());
        }
    }
    if let Some(length) = verb(rest) {
        return Some(at + length);
    }
    // Example: “The answer to the question is …”
    if ["to ", "for ", "of "]
        .iter()
        .any(|word| rest.starts_with(word))
    {
        let line = rest.lines().next().unwrap_or_default();
        let far = line.char_indices().map(|(at, _)| at).find(|&at| at >= 80);
        let near = &line[..far.unwrap_or(line.len())];
        let near = &near[..near.find(". ").unwrap_or(near.len())];
        let verbs = [" is ", " is:", " are ", ": "].iter();
        let end = verbs
            .filter_map(|verb| Some(near.find(verb)? + verb.len()))
            .min();
        return end.map(|end| at + end);
    }
    // The word is in a heading, with the answer below or after it.
    let back = text[..begin].bytes().rev().take(80);
    let line = back.take_while(|byte| *byte != b'\n').count();
    let heads = text.get(begin - line..begin)?;
    let heads = heads.split(|c: char| !c.is_alphabetic()).all(|word| {
        let words = ["", "the", "my", "our", "final", "short", "correct"];
        words.contains(&word.to_lowercase().as_str())
    });
    let values = [
        '\n', '\r', '$', '\\', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9',
    ];
    (heads && (rest.is_empty() || rest.starts_with(values))).then_some(at)
}

fn verb(rest: &str) -> Option<usize> {
    let found = VERBS.iter().filter(|verb| rest.starts_with(**verb));
    let length = found.map(|verb| verb.len()).max()?;
    let ends = rest[length..].chars().next();
    ends.is_none_or(|c| !c.is_alphanumeric()).then_some(length)
}

/// Returns the sentence after a phrase that ends at `end`, and the text after that sentence.
fn said(text: &str, end: usize) -> Option<(&str, &str)> {
    let mut rest = &text[end..];
    // Skips up to three introductory words.
    for _ in 0..3 {
        let leads = |c: char| {
            c.is_whitespace() || matches!(c, ':' | '：' | '*' | '_' | '`' | '>' | '"' | '“')
        };
        rest = rest.trim_start_matches(leads);
        let lower = rest
            .get(..16.min(rest.len()))
            .unwrap_or_default()
            .to_ascii_lowercase();
        let leading = LEADING.iter().find(|words| {
            let behind = lower.strip_prefix(**words);
            // “The answer is below 24” is a bound.
            let bound = |behind: &str| {
                let value = behind.trim_start_matches([' ', '*', '$', '\\', '(']);
                **words == "below" && value.starts_with(|c: char| c.is_ascii_digit())
            };
            behind
                .is_some_and(|behind| !behind.starts_with(char::is_alphanumeric) && !bound(behind))
        });
        match leading {
            Some(words) => rest = rest[words.len()..].trim_start_matches([',', ' ']),
            None => break,
        }
    }
    // Skips a horizontal rule between the heading and the answer.
    let rest = rest.trim_start_matches(|c: char| c.is_whitespace());
    let rest = rest.strip_prefix("---").map_or(rest, str::trim_start);
    let sentence = first_sentence(rest);
    if sentence.is_empty() {
        return None;
    }
    let begin = rest.find(sentence)?;
    Some((sentence, &rest[begin + sentence.len()..]))
}

fn is_talk(sentence: &str) -> bool {
    let end = sentence
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(sentence.len());
    let first = sentence[..end].to_lowercase();
    // The answer itself may be “correct” if nothing follows, so the sentence is kept.
    TALK.contains(&first.as_str())
        && !clause(sentence).contains(|c: char| c.is_numeric() || c == '$')
}

/// Returns the last number with which a text corrects itself: the 12 of `Wait, actually 12.`
fn correction(text: &str) -> Option<&str> {
    const WORDS: [&str; 9] = [
        "wait",
        "actually",
        "correction",
        "sorry",
        "oops",
        "scratch that",
        "i mean",
        "no",
        "hmm",
    ];
    const FILLERS: [&str; 12] = [
        "actually",
        "it is",
        "it's",
        "it’s",
        "that's",
        "that should be",
        "it should be",
        "should be",
        "make that",
        "i mean",
        "the answer is",
        "that is",
    ];
    let mut found = None;
    for sentence in text.lines().flat_map(|line| line.split(". ")) {
        let lower = sentence.to_ascii_lowercase();
        let begins = |rest: &str, word: &str| {
            let behind = rest.strip_prefix(word);
            behind.is_some_and(|behind| !behind.starts_with(char::is_alphanumeric))
        };
        let signs = [',', ' ', ':', '.', '…', '—', '–'];
        let mut rest = lower.trim_start_matches(|c: char| !c.is_alphanumeric());
        let Some(word) = WORDS.iter().find(|word| begins(rest, word)) else {
            continue;
        };
        rest = rest[word.len()..].trim_start_matches(signs);
        for _ in 0..3 {
            if let Some(filler) = FILLERS.iter().find(|filler| begins(rest, filler)) {
                rest = rest[filler.len()..].trim_start_matches(signs);
            }
        }
        let value = trimmed(&sentence[sentence.len() - rest.len()..]);
        if crate::number::Number::parse(value).is_some() {
            found = Some(value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{AnnouncedAnswer, announced};

    fn answer(text: &str) -> Option<&str> {
        match announced(text) {
            Some(AnnouncedAnswer::Answer(sentence)) => Some(sentence),
            Some(AnnouncedAnswer::Denied) => Some("denied"),
            None => None,
        }
    }

    #[test]
    fn announcements_are_found_however_they_are_written() {
        for (text, said) in [
            ("The answer is 24.", "24"),
            ("the answer is: 24", "24"),
            ("Answer: 24", "24"),
            ("**Answer:** 24", "24"),
            ("**Answer**: **24** pens.", "24** pens"),
            ("Final Answer\n\n24", "24"),
            ("## Final Answer\n\n**24**", "24"),
            ("**Final Answer**\n---\n24", "24"),
            ("Answer = 24", "24"),
            ("Answer → 24", "24"),
            ("The answer to the second question is 24.", "24"),
            ("The answer (in cm) is 24", "24"),
            ("The answers are 3 and 4.", "3 and 4"),
            ("The answer would be -5", "-5"),
            ("The answer is\n\\[\n24\n\\]", "24"),
            ("The answer is as follows:\n24", "24"),
            ("The answer is therefore 24.", "24"),
            ("The answer is 24! Well done", "24"),
            ("The correct option is B.", "B"),
            ("所以答案是24。", "24"),
            ("故选B。", "B"),
            ("The answer is 23. Wait, actually 24.", "24"),
            (
                "The answer is 24. Wait, let me check: 4 boxes of 6. Yes.",
                "24",
            ),
            ("The answer is 24. The answer is correct.", "24"),
            ("The answer is 24. So the answer is not 23", "denied"),
            ("The answer is not 25 but 24", "24"),
            ("Wrong answer: 24", "denied"),
            ("The answer is 30. A wrong answer is 24.", "30"),
            ("The answer is 24. 24 is a wrong answer: 24", "denied"),
            ("It is impossible that the answer is 24", "denied"),
            ("The answer is 24. That is wrong.", "denied"),
            ("The answer is 24. It would be wrong to say so.", "24"),
            (
                "The answer is 24. If it were more, the answer would be 25 if at all.",
                "24",
            ),
            ("The answer is correct", "correct"),
        ] {
            assert_eq!(answer(text), Some(said), "{text:?}");
        }
        for none in [
            "24",
            "to answer this",
            "if the answer is 24",
            "Suppose for now that the answer is 24",
            "confidence in the answer: 95%",
            "an unanswered is 3",
            "",
        ] {
            assert_eq!(answer(none), None, "{none:?}");
        }
    }
}
