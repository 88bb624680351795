//! Talk at the end of a text that is about the answer or to the reader, and is no part of the
//! answer.

use crate::sentence::last_sentence;

/// First words of a closing to the reader.
const CLOSINGS: [&str; 30] = [
    "let me know",
    "please let me know",
    "just let me know",
    "feel free",
    "please feel free",
    "i hope",
    "hope this",
    "hope that",
    "would you like",
    "do you want",
    "do you need",
    "do you have",
    "want me to",
    "shall i",
    "should i",
    "can i help",
    "thank",
    "good luck",
    "happy to",
    "glad to",
    "i am happy to",
    "i'm happy to",
    "you can ask",
    "ask me",
    "any questions",
    "any other questions",
    "need help",
    "is there anything",
    "see you",
    "bye",
];
/// Words that make a sentence which begins with “if you” a closing.
const OFFERS: [&str; 6] = [
    "question",
    "let me know",
    "feel free",
    "ask",
    "help",
    "tell me",
];
/// First words of a line about the answer.
const LABELS: [&str; 17] = [
    "confidence",
    "certainty",
    "probability of being correct",
    "difficulty",
    "self-assessment",
    "self-rating",
    "time taken",
    "time spent",
    "time used",
    "word count",
    "token count",
    "tokens used",
    "steps used",
    "reference",
    "references",
    "source",
    "sources",
];

/// Maximum number of sentences that are looked at for talk.
const SENTENCES: usize = 40;

/// Removes closing sentences and lines about the answer at the end of a text, unless nothing else is
/// there.
pub(crate) fn untalked(text: &str) -> &str {
    let (mut kept, mut rest) = (text, text.trim_end());
    for _ in 0..SENTENCES {
        let Some(at) = last_said(rest) else {
            break;
        };
        let sentence = &rest[at..];
        let talks = is_talk(sentence);
        let silent = !sentence.contains(|c: char| c.is_alphanumeric() || c == '$' || c == '\\');
        rest = rest[..at].trim_end();
        if talks && rest.contains(char::is_alphanumeric) {
            kept = rest;
        }
        // A smile may follow a closing.
        if !(talks || silent) {
            break;
        }
    }
    kept
}

/// Offset of the last sentence of a text: `None` for an empty one.
fn last_said(text: &str) -> Option<usize> {
    let line = text.rfind('\n').map_or(0, |at| at + 1);
    let sentence = last_sentence(&text[line..]);
    if sentence.is_empty() {
        return (line < text.len()).then_some(line);
    }
    Some(line + text[line..].rfind(sentence)?)
}

/// Returns true for a sentence that is no part of an answer.
fn is_talk(sentence: &str) -> bool {
    let begin = sentence.trim_start_matches(|c: char| !c.is_alphanumeric());
    let lower: String = begin
        .chars()
        .take(200)
        .map(|c| {
            if c == '’' {
                '\''
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect();
    let begins = |words: &&str| {
        let behind = lower.strip_prefix(*words);
        behind.is_some_and(|behind| !behind.starts_with(|c: char| c.is_alphanumeric() && c != 's'))
    };
    if CLOSINGS.iter().any(begins) {
        return true;
    }
    let mut owners = ["my ", "the ", "our ", "overall "].iter();
    let named = owners.find_map(|owner| lower.strip_prefix(*owner));
    let named = named.unwrap_or(&lower);
    let label = LABELS
        .iter()
        .filter_map(|words| named.strip_prefix(*words))
        .filter(|behind| !behind.starts_with(char::is_alphanumeric));
    let mut labels = label.map(|behind| {
        let behind = behind.trim_start_matches([' ', '*', '_']);
        let behind = behind.strip_prefix("level").unwrap_or(behind);
        let behind = behind.strip_prefix("score").unwrap_or(behind);
        behind.trim_start_matches([' ', '*', '_'])
    });
    let labels_it = |behind: &str| {
        let aside = behind.starts_with("in ") && (behind.contains(':') || behind.contains(" is "));
        aside || behind.starts_with([':', '=', '：']) || behind.starts_with("is ")
    };
    if labels.any(labels_it) {
        return true;
    }
    lower.starts_with("if you") && OFFERS.iter().any(|words| lower.contains(words))
        || is_certainty(&lower)
}

/// Returns true for a sentence that says how sure the writer is: `I am 95% sure`.
fn is_certainty(lower: &str) -> bool {
    let speaks = ["i am", "i'm", "i have", "with", "about", "my"].iter();
    let mut speaks = speaks.filter(|words| lower.starts_with(**words));
    let sure = ["sure", "certain", "confiden"].iter();
    (speaks.next().is_some() || lower.starts_with(|c: char| c.is_ascii_digit()))
        && (lower.contains('%') || lower.contains("percent") || lower.contains('/'))
        && sure.clone().any(|word| lower.contains(word))
}

/// Returns the part of a sentence before words on how sure the writer is: `24` of `24, with 95%
/// confidence`.
pub(crate) fn unsure(sentence: &str) -> &str {
    let lower = sentence.to_ascii_lowercase();
    let marks = [", ", " with ", " (", "; ", " – ", " — ", " - "].iter();
    let mut begins: Vec<_> = marks.filter_map(|mark| lower.rfind(mark)).collect();
    begins.sort_unstable();
    let is_sure = |begin: &&usize| {
        let tail = &lower[**begin..];
        ["confiden", "certain", "sure"]
            .iter()
            .any(|word| tail.contains(word))
    };
    let begin = begins.iter().rev().find(is_sure);
    let begin = begin.filter(|begin| sentence[..**begin].contains(char::is_alphanumeric));
    &sentence[..begin.copied().unwrap_or(sentence.len())]
}

#[cfg(test)]
mod tests {
    use super::{unsure, untalked};

    #[test]
    fn talk_at_the_end_is_no_answer() {
        for talk in [
            "Confidence: 95%",
            "**Confidence:** 95%",
            "Confidence level: 9/10",
            "My confidence is 95%.",
            "Let me know if you have 2 more questions!",
            "Let me know if you have 2 more questions! 😊",
            "If you have 2 more questions, just ask.",
            "I hope this helps with all 3 of them.",
            "Would you like 2 more examples?",
            "I'm 95% sure.",
            "I am 95% confident in this.",
            "Bye with 3 kisses!",
            "The confidence in this answer: 95%",
            "Source: page 3",
        ] {
            assert_eq!(
                untalked(&format!("24 pens.\n\n{talk}")),
                "24 pens.",
                "{talk:?}"
            );
            assert_eq!(
                untalked(&format!("24 pens. {talk}")),
                "24 pens.",
                "{talk:?}"
            );
            assert_eq!(untalked(talk), talk);
        }
        let closings = "24 pens. Good luck with the other 3! Let me know. 😊";
        assert_eq!(untalked(closings), "24 pens.");
        for said in [
            "24",
            "So 24 pens.",
            "If you have 4 boxes, you have 24 pens",
            "You have 24 pens.",
            "The source has 24 V",
        ] {
            let text = format!("4 boxes.\n{said}");
            assert_eq!(untalked(&text), text);
        }
        assert_eq!(unsure("24, with 95% confidence"), "24,");
        assert_eq!(unsure("24 (95% sure)"), "24");
        assert_eq!(unsure("24, 25"), "24, 25");
    }
}
