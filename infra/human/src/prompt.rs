//! Prompts as one line.

use crate::one_line;

/// Names that chat templates give to who speaks.
const SPEAKERS: [&str; 8] = [
    "system",
    "developer",
    "user",
    "human",
    "assistant",
    "model",
    "tool",
    "environment",
];

/// Formats a prompt as one line of at most `most` characters, without the marks in angle brackets that
/// chat templates write (`<|im_start|>`, `<start_of_turn>`, `</s>`). Of a chat it is the last turn: the
/// question, and not the instructions that all prompts of a set begin with.
pub fn prompt_line(prompt: &str, most: usize) -> String {
    let parts = between_marks(prompt);
    let mut turns: Vec<String> = Vec::new();
    for (mark, part) in &parts {
        let (speaker, words) = part.trim_start().split_once('\n').unwrap_or((part, ""));
        if SPEAKERS.contains(&speaker.trim()) {
            turns.push(words.to_owned());
        } else if SPEAKERS.contains(&mark.trim_matches('|')) {
            turns.push((*part).to_owned());
        } else if let Some(turn) = turns.last_mut() {
            turn.push_str(part);
        }
    }
    let mut asked = turns.iter().rev().map(|turn| turn.trim());
    match asked.find(|turn| !turn.is_empty()) {
        Some(turn) => one_line(turn, most),
        None => one_line(&parts.iter().map(|part| part.1).collect::<String>(), most),
    }
}

/// Splits a text at words in angle brackets: each part with the word before it.
fn between_marks(text: &str) -> Vec<(&str, &str)> {
    let is_inner = |char: char| char.is_ascii_alphanumeric() || "|_/".contains(char);
    let mut parts = Vec::new();
    let (mut mark, mut begin, mut from) = ("", 0, 0);
    while let Some(open) = text[from..].find('<').map(|at| from + at) {
        let inner = open + 1;
        let end = text[inner..].find(|char| !is_inner(char));
        match end.map(|end| inner + end) {
            Some(end) if end > inner && text[end..].starts_with('>') => {
                parts.push((mark, &text[begin..open]));
                (mark, begin, from) = (&text[inner..end], end + 1, end + 1);
            }
            _ => from = inner,
        }
    }
    parts.push((mark, &text[begin..]));
    parts
}

#[cfg(test)]
mod tests {
    use super::prompt_line;

    #[test]
    fn of_a_chat_the_last_turn_is_shown() {
        let question = "What is 17 - 18?";
        let chats = [
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n",
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>\
             <|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n",
            "<bos><start_of_turn>user\nQ<end_of_turn>\n<start_of_turn>model\n",
            "<|system|>\nBe brief.</s>\n<|user|>\nQ</s>\n<|assistant|>\n",
        ];
        for chat in chats {
            assert_eq!(prompt_line(&chat.replace('Q', question), 80), question);
        }
    }

    #[test]
    fn a_prompt_loses_the_marks_of_its_template() {
        let chat = "<s><|im_start|>user\nIs 1 < 2 and a<b>c?<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(prompt_line(chat, 80), "Is 1 < 2 and ac?");
        assert_eq!(
            prompt_line("[INST] 1+1= [/INST]", 80),
            "[INST] 1+1= [/INST]"
        );
        assert_eq!(prompt_line("x<", 80), "x<");
        assert_eq!(prompt_line("<é> <>", 80), "<é> <>");
        assert_eq!(prompt_line("user\n1+1=", 80), "1+1=");
    }
}
