//! Check of rows that list choices: an answer that is the place of one cannot be judged.

use super::raw::{self, kind};

/// Refuses an answer that is the place of a choice and not what a completion says: the index of one,
/// from 0 or from 1, or the letter of one that the prompt does not show.
pub(super) fn refuse_index<'a>(
    get: impl Fn(&str) -> Option<&'a str>,
    prompt: &str,
    answer: Option<&str>,
) -> Result<(), String> {
    let Some(answer) = answer.map(str::trim) else {
        return Ok(());
    };
    let listed = ["choices", "options"]
        .into_iter()
        .find_map(|key| Some((key, list(get(key)?)?)));
    let Some((key, choices)) = listed else {
        return Ok(());
    };
    let is_choice = |choice: &String| choice == answer;
    let is_text = match answer.parse::<usize>() {
        Ok(index) if index <= choices.len() => {
            // A number is the text only of the choice in its place; a string may be that of any.
            let is_number = ["answer", "ground_truth"]
                .into_iter()
                .any(|key| get(key).is_some_and(|value| kind(value) == "a number"));
            if is_number {
                choices.get(index).is_some_and(is_choice)
            } else {
                choices.iter().any(is_choice)
            }
        }
        Ok(_number) => true,
        Err(_) => {
            let letter = letter(answer).is_some_and(|place| place < choices.len());
            let is_shown = choices
                .iter()
                .all(|choice| prompt.contains(choice.as_str()));
            !letter || is_shown || choices.iter().any(is_choice)
        }
    };
    if is_text {
        return Ok(());
    }
    Err(format!(
        "its answer {answer:?} reads as the place of one of its {} {key:?}, and would be judged as \
         it stands: write what a completion is to say, which is the text of the choice, or its \
         letter where the prompt shows the choices with letters, such as {{\"prompt\": \"2+2=? (A) 3 \
         (B) 4\", \"answer\": \"B\"}}",
        choices.len()
    ))
}

/// Returns the texts of choices: a list, or an object with the list `text` as ARC has it.
fn list(value: &str) -> Option<Vec<String>> {
    let value = if value.starts_with('{') {
        let members = raw::members(value).ok()?;
        members.into_iter().find(|(name, _)| name == "text")?.1
    } else {
        value
    };
    if !value.starts_with('[') {
        return None;
    }
    let texts = raw::elements(value).ok()?.into_iter().map(|choice| {
        let text = raw::string(choice);
        text.map_or_else(|_| choice.to_owned(), |text| text.trim().to_owned())
    });
    let texts: Vec<_> = texts.collect();
    (!texts.is_empty()).then_some(texts)
}

/// Returns the place of a single letter, from 0 for A, also in brackets.
fn letter(answer: &str) -> Option<usize> {
    let bare = answer.trim_matches(['(', ')', '.']);
    let mut letters = bare.chars();
    let letter = letters.next()?.to_ascii_uppercase();
    (letters.next().is_none() && letter.is_ascii_uppercase())
        .then(|| letter as usize - 'A' as usize)
}
