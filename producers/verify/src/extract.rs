use std::ops::Range;

use crate::{Number, scan};

/// A number and the text that states it.
pub(crate) struct Found<'a> {
    pub(crate) number: Number,
    pub(crate) text: &'a str,
}

/// The contents of the last `\boxed{…}` or `\fbox{…}` whose braces are closed.
pub fn boxed(text: &str) -> Option<&str> {
    boxed_at(text).map(|(_, content)| content)
}

/// What follows the last `####` on its line, without white space at the ends; GSM8K's mark.
pub fn hashes(text: &str) -> Option<&str> {
    hashes_at(text).map(|(_, content)| content)
}

/// The last number of a text, as it is written there.
pub fn last_number(text: &str) -> Option<&str> {
    last(text).map(|found| found.text)
}

/// The first one.
pub(crate) fn first_number(text: &str) -> Option<&str> {
    first(text).map(|found| found.text)
}

/// A completion's final number: that of its last mark, or else its last one.
pub(crate) fn final_number(completion: &str) -> Option<Found<'_>> {
    match mark(completion) {
        Some(Mark::Boxed(content)) => whole(content).or_else(|| last(content)),
        Some(Mark::Hashes(line)) => whole(line).or_else(|| first(line)),
        None => last(completion),
    }
}

/// What a known answer says: what its last mark holds, or all of it.
pub(crate) fn stated(answer: &str) -> &str {
    match mark(answer) {
        Some(Mark::Boxed(content) | Mark::Hashes(content)) => content.trim(),
        None => answer.trim(),
    }
}

/// A known answer's number: the answer, or what its last mark holds, is that number and nothing
/// else.
pub(crate) fn stated_number(answer: &str) -> Option<Found<'_>> {
    whole(stated(answer))
}

enum Mark<'a> {
    Boxed(&'a str),
    Hashes(&'a str),
}

/// Whichever mark comes last.
fn mark(text: &str) -> Option<Mark<'_>> {
    match (boxed_at(text), hashes_at(text)) {
        (Some((a, _)), Some((b, line))) if b > a => Some(Mark::Hashes(line)),
        (Some((_, content)), _) => Some(Mark::Boxed(content)),
        (None, Some((_, line))) => Some(Mark::Hashes(line)),
        (None, None) => None,
    }
}

fn whole(text: &str) -> Option<Found<'_>> {
    Number::parse(text).map(|number| Found {
        number,
        text: text.trim(),
    })
}

fn first(text: &str) -> Option<Found<'_>> {
    let (begin, lexeme) = scan::numbers(text).next()?;
    Some(Found {
        number: lexeme.number?,
        text: text[begin..lexeme.end].trim(),
    })
}

fn last(text: &str) -> Option<Found<'_>> {
    let (begin, lexeme) = scan::numbers(text).last()?;
    Some(Found {
        number: lexeme.number?,
        text: text[begin..lexeme.end].trim(),
    })
}

/// A closed `\boxed{…}` or `\fbox{…}`.
pub(crate) struct Boxed {
    /// Where its command begins.
    pub(crate) begin: usize,
    /// What stands between its braces.
    pub(crate) content: Range<usize>,
}

/// All that are closed, in the order in which they are.
///
/// In one pass, so that a text of nothing but opening marks costs no more than any other.
pub(crate) fn boxes(text: &str) -> Vec<Boxed> {
    // For every open brace, where its command begins and its content, if a mark opened it.
    let mut open: Vec<Option<(usize, usize)>> = Vec::new();
    let mut found = Vec::new();
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\\' => {
                escaped = !escaped;
                continue;
            }
            b'{' if !escaped => {
                let before = text[..at].trim_end_matches(' ');
                let marks = ["\\boxed", "\\fbox"].into_iter();
                let mut command = marks.filter_map(|mark| before.strip_suffix(mark));
                open.push(command.next().map(|before| (before.len(), at + 1)));
            }
            b'}' if !escaped => {
                if let Some((begin, content)) = open.pop().flatten() {
                    let content = content..at;
                    found.push(Boxed { begin, content });
                }
            }
            _ => {}
        }
        escaped = false;
    }
    found
}

fn boxed_at(text: &str) -> Option<(usize, &str)> {
    let content = boxes(text).pop()?.content;
    Some((content.start, &text[content]))
}

pub(crate) fn hashes_at(text: &str) -> Option<(usize, &str)> {
    let begin = text.rfind("####")? + 4;
    let line = text[begin..].lines().next().unwrap_or_default().trim();
    Some((begin, line))
}
