//! Distinction between `####` as GSM8K's mark of an answer and as a Markdown heading.

/// First words of headings, whatever follows them.
const HEADINGS: [&str; 24] = [
    "step",
    "steps",
    "part",
    "case",
    "check",
    "checking",
    "verification",
    "verify",
    "verifying",
    "explanation",
    "solution",
    "conclusion",
    "summary",
    "note",
    "notes",
    "method",
    "approach",
    "analysis",
    "calculation",
    "calculations",
    "reasoning",
    "given",
    "proof",
    "problem",
];

/// Line after a `####`, and the byte offset at which that line begins.
pub(crate) struct Hashes<'a> {
    pub(crate) at: usize,
    pub(crate) line: &'a str,
}

/// Returns the last `####` that marks an answer rather than heads a section.
pub(crate) fn marked(text: &str) -> Option<Hashes<'_>> {
    let mut end = text.len();
    while let Some(found) = text[..end].rfind("####") {
        let begin = text[..found].trim_end_matches('#').len();
        let at = found + 4;
        let behind = &text[at..];
        let line = behind.lines().next().unwrap_or_default();
        let body = &behind[line.len()..];
        let starts = text[..begin].chars().next_back().is_none_or(|c| c == '\n');
        if !(starts && is_heading(line, !body.trim().is_empty())) {
            let line = line.trim();
            return Some(Hashes { at, line });
        }
        end = begin;
    }
    None
}

/// Returns true if the rest of a line after `####` is the heading of a section.
fn is_heading(line: &str, has_body: bool) -> bool {
    let text = line.trim_start_matches(|c: char| !begins_answer(c));
    let text = text.strip_prefix('(').unwrap_or(text);
    let word_end = text
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(text.len());
    let (word, behind) = text.split_at(word_end);
    let lower = word.to_lowercase();
    // The answer is announced by this heading, and found in its line or below.
    if lower == "final" || line.contains("答案") || line.to_ascii_lowercase().contains("answer") {
        return true;
    }
    if !has_body {
        return false;
    }
    if HEADINGS.contains(&lower.as_str()) {
        return true;
    }
    let capital = |text: &str| {
        text.trim_start_matches(['*', ' ', '_'])
            .starts_with(char::is_uppercase)
    };
    if word.is_empty() {
        // Headings: `2. Check`, `2) Check`, `2: Check`, `2 Check`; answers: `24 pens`, `24.`,
        // `2.5`.
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let behind = &text[digits..];
        let ordinal = behind.strip_prefix(['.', ')', ':']).unwrap_or(behind);
        return digits > 0 && ordinal.starts_with(' ') && capital(ordinal)
            || digits > 0
                && ordinal.len() < behind.len()
                && ordinal.trim().contains(char::is_alphabetic)
                && !ordinal.starts_with(|c: char| c.is_ascii_digit());
    }
    if word.chars().nth(1).is_none() {
        // Headings: `A. Setup`; answers: `B`, `B)`, `x = 5`.
        let behind = behind.trim_start_matches(['.', ')', ':', '*']);
        return word.starts_with(char::is_uppercase) && capital(behind);
    }
    let states = behind.contains('=') && !behind.contains(':');
    word.starts_with(char::is_uppercase) && !states
}

/// Returns true if a character may begin an answer; all other characters are decoration.
fn begins_answer(c: char) -> bool {
    c.is_alphanumeric() || "-+−$\\(.[{|√π€£¥∞≈±".contains(c)
}
