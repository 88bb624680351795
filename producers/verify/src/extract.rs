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

/// A completion's final number: that of its last mark, or else its last one.
pub(crate) fn final_number(completion: &str) -> Option<Found<'_>> {
    match mark(completion) {
        Some(Mark::Boxed(content)) => whole(content).or_else(|| last(content)),
        Some(Mark::Hashes(line)) => whole(line).or_else(|| first(line)),
        None => last(completion),
    }
}

/// A known answer's number: the answer, or what its last mark holds, is that number and nothing
/// else.
pub(crate) fn stated_number(answer: &str) -> Option<Found<'_>> {
    match mark(answer) {
        Some(Mark::Boxed(content) | Mark::Hashes(content)) => whole(content),
        None => whole(answer),
    }
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

/// In one pass, so that a text of nothing but opening marks costs no more than any other.
fn boxed_at(text: &str) -> Option<(usize, &str)> {
    // For every open brace, where its content begins if a mark opened it.
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut found = None;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\\' => {
                escaped = !escaped;
                continue;
            }
            b'{' if !escaped => {
                let before = text[..at].trim_end_matches(' ');
                let marked = before.ends_with("\\boxed") || before.ends_with("\\fbox");
                open.push(marked.then_some(at + 1));
            }
            b'}' if !escaped => {
                if let Some(begin) = open.pop().flatten() {
                    found = Some((begin, &text[begin..at]));
                }
            }
            _ => {}
        }
        escaped = false;
    }
    found
}

fn hashes_at(text: &str) -> Option<(usize, &str)> {
    let begin = text.rfind("####")? + 4;
    let line = text[begin..].lines().next().unwrap_or_default().trim();
    Some((begin, line))
}
