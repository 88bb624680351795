use crate::{
    announce::{AnnouncedAnswer, announced, announced_in_box},
    answer::{Final, final_answer},
    boxes::Boxes,
    number::Number,
    runs::last_value,
    scan,
    sentence::trimmed,
    spelt::spelt_alone,
    stance::{Stance, stance},
    stated::stated_number,
};

/// Number, with the text that states it.
pub(crate) struct Found<'a> {
    pub(crate) number: Number,
    pub(crate) text: &'a str,
}

/// Content of the last `\boxed{…}` or `\fbox{…}` whose braces are closed.
pub fn boxed(text: &str) -> Option<&str> {
    boxed_at(text).map(|(_, content)| content)
}

/// Rest of the line after the last `####`, which is GSM8K's mark, without white space at the ends.
pub fn hashes(text: &str) -> Option<&str> {
    hashes_at(text).map(|(_, content)| content)
}

/// Last number of a text, as it is written there.
pub fn last_number(text: &str) -> Option<&str> {
    last(text).map(|found| found.text)
}

/// Number that a completion's final answer states, if it states one.
pub(crate) fn final_number(completion: &str, open: bool) -> Option<Found<'_>> {
    match final_answer(completion, open)? {
        Final::Boxed(content) => alone(content),
        Final::Boxes(_, contents) => {
            let mut numbers: Vec<_> = contents.into_iter().map(alone).collect::<Option<_>>()?;
            let last = numbers.pop()?;
            let same = |found: &Found<'_>| found.number.equals(&last.number);
            numbers.iter().all(same).then_some(last)
        }
        Final::Hashes(line) => match stance(line, false) {
            Stance::Said(sentence) => sentence_number(sentence),
            Stance::Denied | Stance::Supposed => None,
        },
        Final::Announced(sentence) => sentence_number(sentence),
        Final::Ending(ending) if ending.doubt.is_some() => None,
        Final::Ending(ending) => ending
            .bold()
            .and_then(alone)
            .or_else(|| spelt(ending.line).filter(|found| found.text == trimmed(ending.line)))
            .or_else(|| whole(last_value(ending.text)?)),
    }
}

/// Number that a sentence states, in digits or in words.
fn sentence_number(sentence: &str) -> Option<Found<'_>> {
    whole(sentence)
        .or_else(|| spelt(sentence))
        .or_else(|| whole(stated_number(sentence)?))
}

fn spelt(sentence: &str) -> Option<Found<'_>> {
    let (number, text) = spelt_alone(sentence)?;
    Some(Found { number, text })
}

/// Reads the only number of a box or a text in bold. `None` if there is a second number, if the
/// number is denied or part of a formula (`\\sqrt{16}`, `2x`), or if, in an equation, it is not
/// after the last equals sign.
fn alone(content: &str) -> Option<Found<'_>> {
    if let Some(found) = whole(content) {
        return Some(found);
    }
    let Stance::Said(content) = stance(content, false) else {
        return None;
    };
    match announced(content) {
        Some(AnnouncedAnswer::Denied) => return None,
        Some(AnnouncedAnswer::Answer(_)) => return sentence_number(announced_in_box(content)?),
        None => {}
    }
    let behind = content
        .rfind(['=', '≈'])
        .map_or(content, |at| &content[at + 1..]);
    let mut numbers = scan::numbers(behind);
    let (begin, lexeme) = numbers.next()?;
    let (before, after) = (&behind[..begin], &behind[lexeme.end..]);
    let computes = |text: &str| {
        const SIGNS: [char; 13] = [
            '≠', '+', '*', '×', '·', '√', 'π', '±', '!', '<', '>', '≤', '≥',
        ];
        const COMMANDS: [&str; 15] = [
            "\\ne", "\\le", "\\ge", "\\sqrt", "\\pi", "\\cdot", "\\times", "\\frac", "\\dfrac",
            "\\pm", "\\log", "\\ln", "\\sin", "\\cos", "\\tan",
        ];
        text.contains(SIGNS) || COMMANDS.iter().any(|command| text.contains(command))
    };
    // A letter after the number that is not a unit is a variable.
    let mut letters = after.chars();
    let variable = letters
        .next()
        .is_some_and(|c| "xyznkabeipqrtuvw".contains(c))
        && !letters.next().is_some_and(char::is_alphabetic);
    if numbers.next().is_some() || computes(before) || computes(after) || variable {
        return None;
    }
    Some(Found {
        number: lexeme.number?,
        text: behind[begin..lexeme.end].trim(),
    })
}

/// Returns the content of a known answer's last mark, or all of the answer if it has none.
pub(crate) fn known_answer(answer: &str) -> &str {
    match mark(answer) {
        Some(Mark::Boxed(content) | Mark::Hashes(content)) => content.trim(),
        None => answer.trim(),
    }
}

/// Number of a known answer. `None` if the answer, or the content of its last mark, is anything
/// else than one number.
pub(crate) fn known_number(answer: &str) -> Option<Found<'_>> {
    whole(known_answer(answer))
}

enum Mark<'a> {
    Boxed(&'a str),
    Hashes(&'a str),
}

/// Returns the last mark of a text, be it a box or `####`.
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

fn last(text: &str) -> Option<Found<'_>> {
    let (begin, lexeme) = scan::numbers(text).last()?;
    Some(Found {
        number: lexeme.number?,
        text: text[begin..lexeme.end].trim(),
    })
}

fn boxed_at(text: &str) -> Option<(usize, &str)> {
    let content = Boxes::of(text).closed.pop()?.content;
    Some((content.start, &text[content]))
}

fn hashes_at(text: &str) -> Option<(usize, &str)> {
    let begin = text.rfind("####")? + 4;
    let line = text[begin..].lines().next().unwrap_or_default().trim();
    Some((begin, line))
}
