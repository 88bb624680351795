//! `\boxed{…}` and `\fbox{…}`.

use std::ops::Range;

/// A closed `\boxed{…}` or `\fbox{…}`.
pub(crate) struct Boxed {
    /// Where its command begins.
    pub(crate) begin: usize,
    /// What stands between its braces.
    pub(crate) content: Range<usize>,
}

/// The boxes of a text.
pub(crate) struct Boxes {
    /// All that are closed, in the order in which they are.
    pub(crate) closed: Vec<Boxed>,
    /// Where the last one that is not closed begins.
    pub(crate) open: Option<usize>,
}

impl Boxes {
    /// Finds them in one pass, so that a text of nothing but opening marks costs no more than any
    /// other.
    pub(crate) fn of(text: &str) -> Self {
        // For every open brace, where its command begins and its content, if a mark opened it.
        let mut open: Vec<Option<(usize, usize)>> = Vec::new();
        let mut closed = Vec::new();
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
                        closed.push(Boxed { begin, content });
                    }
                }
                _ => {}
            }
            escaped = false;
        }
        let open = open.into_iter().flatten().map(|(begin, _)| begin).max();
        Self { closed, open }
    }

    /// Without those that say nothing, such as that of a question said again (`in \boxed{}`), if
    /// any says something.
    pub(crate) fn telling(mut self, text: &str) -> Self {
        let says = |found: &Boxed| {
            let content = &text[found.content.clone()];
            content.contains(|c: char| c.is_alphanumeric() || !(c.is_ascii() || c == '…'))
                || content.contains("\\{")
        };
        if self.closed.iter().any(says) {
            self.closed.retain(says);
        }
        self
    }
}

/// Words that join guesses to one another, and commands that only look.
const JOINING: [&str; 22] = [
    "and",
    "or",
    "also",
    "maybe",
    "perhaps",
    "possibly",
    "probably",
    "alternatively",
    "either",
    "else",
    "otherwise",
    "likely",
    "text",
    "textbf",
    "mathrm",
    "mbox",
    "quad",
    "qquad",
    "left",
    "right",
    "et",
    "oder",
];

/// How many of the last boxes stand in a row: with nothing between them but signs, numbers of a
/// list and words that join guesses.
pub(crate) fn in_a_row(text: &str, boxes: &[Boxed]) -> usize {
    let mut first = boxes.len().saturating_sub(1);
    while let Some(before) = first.checked_sub(1) {
        let between = text.get(boxes[before].content.end + 1..boxes[first].begin);
        if !between.is_some_and(joins) {
            break;
        }
        first = before;
    }
    boxes.len() - first
}

fn joins(between: &str) -> bool {
    let words = between.split(|c: char| !c.is_alphanumeric());
    // What stands between two boxes is short where it joins them.
    between.len() <= 200
        && words.filter(|word| !word.is_empty()).all(|word| {
            is_ordinal(between, word) || JOINING.contains(&word.to_lowercase().as_str())
        })
        && !between.contains(['=', '+', '<', '>', '≠', '≈'])
}

/// Whether a word is the number of a list's line: `2.`, `2)`.
fn is_ordinal(between: &str, word: &str) -> bool {
    word.len() <= 2
        && word.bytes().all(|byte| byte.is_ascii_digit())
        && between.lines().skip(1).any(|line| {
            let behind = line.trim_start().strip_prefix(word);
            behind.is_some_and(|behind| behind.starts_with(['.', ')']))
        })
}
