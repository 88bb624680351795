//! The one final answer of a completion, for every kind of comparison.

use crate::{
    announce::{Announced, announced},
    boxes::{Boxes, in_a_row},
    heading::marked,
    last::Ending,
    thought::spoken,
};

/// The final answer of a completion, by the mark it stands at; `docs/answers.md` gives the order in
/// which marks win, and why.
pub(crate) enum Final<'a> {
    /// In the last box.
    Boxed(&'a str),
    /// In several boxes in a row, which differ: the text from the first to the last, and what stands
    /// in each.
    Boxes(&'a str, Vec<&'a str>),
    /// Behind `####`.
    Hashes(&'a str),
    /// In the sentence that announces it.
    Announced(&'a str),
    /// At the end of a text without any mark.
    Ending(Ending<'a>),
}

/// The final answer, or `None` where there is none: an unfinished thought, a box that is cut off,
/// an announcement of what it is not. `open` says that the prompt has opened a thought.
pub(crate) fn final_answer(completion: &str, open: bool) -> Option<Final<'_>> {
    let text = spoken(completion, open)?;
    let Boxes { closed, open } = Boxes::of(text).telling(text);
    let last = closed.last().map(|last| last.begin);
    let hashes = marked(text).filter(|found| !(found.line.is_empty() && last.is_some()));
    // Of boxes and `####`, whichever comes last.
    if let Some(found) = hashes
        && open.max(last).is_none_or(|begin| begin < found.at)
    {
        return Some(Final::Hashes(found.line));
    }
    if open > last {
        // Cut off in the middle of the answer.
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
        Some(Announced::Answer(sentence)) => Some(Final::Announced(sentence)),
        Some(Announced::Denied) => None,
        None if text.trim().is_empty() => None,
        None => Some(Final::Ending(Ending::of(text))),
    }
}
