//! Location of a completion's final answer, common to every kind of comparison.

use crate::{
    announce::{AnnouncedAnswer, announced},
    boxes::{Boxes, in_a_row},
    heading::marked,
    last::Ending,
    thought::spoken,
};

/// Final answer of a completion, by the mark that sets it off; `docs/answers.md` gives the order in
/// which marks win, and the reasons.
pub(crate) enum Final<'a> {
    /// Content of the last box.
    Boxed(&'a str),
    /// Several different boxes in a row: the text from the first to the last, and the content of
    /// each.
    Boxes(&'a str, Vec<&'a str>),
    /// Rest of the line after `####`.
    Hashes(&'a str),
    /// Sentence that announces the answer.
    Announced(&'a str),
    /// End of a text without any mark.
    Ending(Ending<'a>),
}

/// Finds the final answer. `None` if there is none: unfinished reasoning, a box that is cut off, or
/// an announcement of what the answer is not. `open` is true if the prompt ends with an opening
/// reasoning tag.
pub(crate) fn final_answer(completion: &str, open: bool) -> Option<Final<'_>> {
    let text = spoken(completion, open)?;
    let Boxes { closed, open } = Boxes::of(text).without_empty(text);
    let last = closed.last().map(|last| last.begin);
    let hashes = marked(text).filter(|found| !(found.line.is_empty() && last.is_some()));
    // The last mark counts, be it a box or `####`.
    if let Some(found) = hashes
        && open.max(last).is_none_or(|begin| begin < found.at)
    {
        return Some(Final::Hashes(found.line));
    }
    if open > last {
        // The text was cut off in the middle of the answer.
        return None;
    }
    if let Some(last) = closed.last() {
        let row = &closed[closed.len() - in_a_row(text, &closed)..];
        let contents: Vec<_> = row
            .iter()
            .map(|found| &text[found.content.clone()])
            .collect();
        let first = contents.first().map(|content| content.trim());
        if contents.iter().all(|content| Some(content.trim()) == first) {
            return Some(Final::Boxed(&text[last.content.clone()]));
        }
        let begin = row.first().map_or(last.begin, |first| first.begin);
        return Some(Final::Boxes(&text[begin..=last.content.end], contents));
    }
    match announced(text) {
        Some(AnnouncedAnswer::Answer(sentence)) => Some(Final::Announced(sentence)),
        Some(AnnouncedAnswer::Denied) => None,
        None if text.trim().is_empty() => None,
        None => Some(Final::Ending(Ending::of(text))),
    }
}
