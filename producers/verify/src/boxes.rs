//! Finder for `\boxed{…}` and `\fbox{…}`.

use std::ops::Range;

/// Closed `\boxed{…}` or `\fbox{…}`.
pub(crate) struct Boxed {
    /// Byte offset at which its command begins.
    pub(crate) begin: usize,
    /// Byte range of the text between its braces.
    pub(crate) content: Range<usize>,
}

/// All boxes of a text.
pub(crate) struct Boxes {
    /// Closed boxes, ordered by their closing braces.
    pub(crate) closed: Vec<Boxed>,
    /// Byte offset of the last box that is not closed.
    pub(crate) open: Option<usize>,
}

impl Boxes {
    /// Finds the boxes of a text in one pass, so that even a text of opening marks only takes
    /// linear time.
    pub(crate) fn of(text: &str) -> Self {
        // Offsets of the box command and of its content, for every open brace that a box opened.
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

    /// Removes boxes without content, such as that of a repeated question (`in \boxed{}`), if any
    /// box has content.
    pub(crate) fn without_empty(mut self, text: &str) -> Self {
        let has_content = |found: &Boxed| {
            let content = &text[found.content.clone()];
            content.contains(|c: char| c.is_alphanumeric() || !(c.is_ascii() || c == '…'))
                || content.contains("\\{")
        };
        if self.closed.iter().any(has_content) {
            self.closed.retain(has_content);
        }
        self
    }
}

/// Words between boxes that make them alternative guesses, and LaTeX commands that only change the
/// appearance.
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

/// Number of boxes at the end that form one list: only punctuation, list numbers and joining words
/// are between them.
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

/// Returns true if a text between two answers only joins them.
pub(crate) fn joins(between: &str) -> bool {
    let words = between.split(|c: char| !c.is_alphanumeric());
    // Text that joins two boxes is short.
    between.len() <= 200
        && words.filter(|word| !word.is_empty()).all(|word| {
            is_ordinal(between, word) || JOINING.contains(&word.to_lowercase().as_str())
        })
        && !between.contains(['=', '+', '<', '>', '≠', '≈'])
}

/// Returns true if a word is the number of a list item: `2.`, `2)`.
fn is_ordinal(between: &str, word: &str) -> bool {
    word.len() <= 2
        && word.bytes().all(|byte| byte.is_ascii_digit())
        && between.lines().skip(1).any(|line| {
            let behind = line.trim_start().strip_prefix(word);
            behind.is_some_and(|behind| behind.starts_with(['.', ')']))
        })
}
