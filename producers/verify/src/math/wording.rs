//! Wording around an answer: punctuation, bold marks, a name in front of it, a sentence that affirms
//! it.

use std::borrow::Cow;

use super::token::Token;

/// Removes the punctuation at the end of a sentence.
pub(super) fn without_end_marks(tokens: &[Token]) -> &[Token] {
    let stops = tokens
        .iter()
        .rev()
        .take_while(|token| token.is('.') || token.is(',') || token.is('\n') || token.is('。'));
    &tokens[..tokens.len() - stops.count()]
}

/// Removes Markdown's bold marks: those of `**24** pens`, but not the power of `2**10`.
pub(super) fn without_bold(text: &str) -> Cow<'_, str> {
    let Some(begin) = text.find("**") else {
        return Cow::Borrowed(text);
    };
    let digits = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == ')');
    let behind = text[begin + 2..].chars().next();
    if digits(text[..begin].chars().next_back()) && digits(behind) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace("**", ""))
}

/// Returns true if both are written alike; only words may differ in case.
pub(super) fn is_same_text(a: &[Token], b: &[Token]) -> bool {
    if a == b {
        return true;
    }
    let is_word = |token: &Token| matches!(token, Token::Word(_));
    if !a.iter().chain(b).any(is_word) {
        return false;
    }
    let text = |tokens: &[Token]| {
        let mut text = String::new();
        for token in tokens {
            match token {
                Token::Number(value, _) => {
                    text.push_str(&value.top().to_string());
                    text.push('/');
                    text.push_str(&value.bottom().to_string());
                }
                Token::Mark('{' | '}') => {}
                Token::Mark(mark) => text.push(*mark),
                Token::Symbol(name) | Token::Word(name) | Token::Command(name) => {
                    text.push_str(&name.to_lowercase());
                }
            }
        }
        text
    };
    text(a) == text(b)
}

/// Removes the name of a value in front of it: `Total area = 24`, `Total: 24`.
pub(super) fn without_name(tokens: &[Token]) -> &[Token] {
    const OTHER: [&str; 9] = [
        "not",
        "wrong",
        "incorrect",
        "false",
        "except",
        "never",
        "confidence",
        "than",
        "if",
    ];
    let is_name = |token: &&Token| matches!(token, Token::Word(_) | Token::Symbol(_));
    let name = tokens.iter().take_while(is_name).count();
    let word =
        |token: &Token, least: usize| matches!(token, Token::Word(word) if word.len() >= least);
    let other = |token: &Token| matches!(token, Token::Word(word) if OTHER.contains(&&**word));
    let names = |least| tokens[..name].iter().any(|token| word(token, least));
    match &tokens[name..] {
        [sign, value @ ..] if names(1) && sign.is('=') && !value.is_empty() => value,
        // One letter in front of a colon is that of a choice.
        [sign, value @ ..]
            if names(2)
                && sign.is(':')
                && !value.is_empty()
                && !tokens[..name].iter().any(other) =>
        {
            value
        }
        _ => tokens,
    }
}

/// Returns true if the known answer is `True` or `False` and a sentence says so (“… is true”).
pub(super) fn affirms(known: &[Token], given: &[Token]) -> bool {
    const OTHERWISE: [&str; 10] = [
        "not", "isn", "never", "neither", "nor", "or", "true", "false", "wrong", "if",
    ];
    let word = |token: &Token| match token {
        Token::Word(word) => Some(word.to_lowercase()),
        _ => None,
    };
    let ([known], [before @ .., is, last]) = (known, given) else {
        return false;
    };
    let known = word(known).filter(|known| matches!(known.as_str(), "true" | "false"));
    known.is_some()
        && word(last) == known
        && word(is).as_deref() == Some("is")
        && !before
            .iter()
            .filter_map(word)
            .any(|word| OTHERWISE.contains(&word.as_str()))
}
