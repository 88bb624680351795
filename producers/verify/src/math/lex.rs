use crate::{scale, sentence::is_pictograph};

use super::{
    fuel::{Fuel, Stop},
    numeral::{Separators, read_numeral},
    rational::Rational,
    token::{Token, greek, is_style, is_text},
    tree::FunctionName,
    unit::is_unit,
};

/// Maximum length of an answer in bytes; the longest in MATH's test set has 159.
pub(crate) const LONGEST: usize = 2000;
/// Words of three letters or less that are not products of variables.
const SHORT_WORDS: [&str; 44] = [
    "yes", "no", "on", "odd", "all", "any", "one", "two", "six", "ten", "red", "and", "or", "of",
    "the", "is", "at", "to", "not", "pm", "am", "per", "new", "old", "big", "top", "day", "sun",
    "mon", "tue", "wed", "thu", "fri", "sat", "may", "jan", "feb", "mar", "apr", "jun", "jul",
    "aug", "sep", "dec",
];

/// Splits an answer into tokens.
///
/// # Errors
/// [`Stop::TooLarge`] for more than [`LONGEST`] bytes, or for numbers that are too long.
pub(crate) fn tokens(text: &str, fuel: &mut Fuel) -> Result<Vec<Token>, Stop> {
    if text.len() > LONGEST {
        return Err(Stop::TooLarge);
    }
    let mut lexer = Lexer {
        rest: text,
        tokens: Vec::new(),
        brackets: 0,
        aligned: 0,
        fuel,
    };
    lexer.read_tokens(false)?;
    Ok(lexer.tokens)
}

struct Lexer<'a, 'f> {
    rest: &'a str,
    tokens: Vec<Token>,
    /// Number of open round, square and set brackets, inside which commas separate items.
    brackets: u32,
    /// Number of open environments of aligned lines, in which `&` only aligns.
    aligned: u32,
    fuel: &'f mut Fuel,
}

impl<'a> Lexer<'a, '_> {
    fn read_tokens(&mut self, in_text: bool) -> Result<(), Stop> {
        while let Some(next) = self.rest.chars().next() {
            self.fuel.burn(4)?;
            let currency = matches!(next, '$' | '€' | '£' | '¥' | '₹' | '₩' | '₽' | '₺');
            if next.is_whitespace() || currency || next == '~' || is_pictograph(next) {
                self.rest = &self.rest[next.len_utf8()..];
            } else if next == '\\' {
                self.read_command()?;
            } else if let Some((value, places, length)) =
                read_numeral(self.rest, self.allowed_separators(), self.fuel)?
            {
                self.tokens.push(Token::Number(value, places));
                self.rest = &self.rest[length..];
            } else if next.is_alphabetic() {
                if !self.apply_scale()? {
                    self.read_letters(in_text);
                }
            } else {
                self.rest = &self.rest[next.len_utf8()..];
                self.read_character(next)?;
            }
        }
        Ok(())
    }

    /// Multiplies the number before a scale word: `1 million`, `5 dozen`. Returns false if there is
    /// no number before it, or no scale word.
    fn apply_scale(&mut self) -> Result<bool, Stop> {
        let Some(Token::Number(value, _)) = self.tokens.last() else {
            return Ok(false);
        };
        let Some(((times, over), behind)) = scale::take(self.rest) else {
            return Ok(false);
        };
        let factor = Rational::new(times.into(), over.into(), self.fuel)?;
        let value = value.times(&factor, self.fuel)?;
        self.tokens.pop();
        self.tokens.push(Token::Number(value, 0));
        self.rest = behind;
        Ok(true)
    }

    /// Returns which thousands separators are allowed here. After an index or a command a space
    /// begins another argument: `\log_2 128`.
    fn allowed_separators(&self) -> Separators {
        let argument = self.tokens.last().is_some_and(|token| {
            token.is('_') || token.is('^') || matches!(token, Token::Command(_))
        });
        Separators {
            commas: self.brackets == 0,
            spaces: !argument,
        }
    }

    fn push_mark(&mut self, mark: char) {
        match mark {
            '(' | '[' | '⦃' => self.brackets += 1,
            ')' | ']' | '⦄' => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.tokens.push(Token::Mark(mark));
    }

    fn read_command(&mut self) -> Result<(), Stop> {
        let behind = &self.rest[1..];
        let letters = behind
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(behind.len());
        let first = behind.chars().next().map_or(0, char::len_utf8);
        let (name, rest) = behind.split_at(letters.max(first));
        self.rest = rest;
        if is_text(name) {
            return self.read_text(name);
        }
        if is_style(name) {
            // A dot after `\left` or `\right` is a bracket that is not drawn.
            if matches!(name, "left" | "right") {
                self.rest = rest.strip_prefix('.').unwrap_or(rest);
            }
            return Ok(());
        }
        if self.aligned > 0 && name == "\\" {
            self.end_line();
            return Ok(());
        }
        if let Some(mark) = Token::mark_of_command(name) {
            self.push_mark(mark);
            return Ok(());
        }
        match name {
            "land" | "wedge" => self.tokens.push(Token::Word("and".to_owned())),
            "lor" | "vee" => self.tokens.push(Token::Word("or".to_owned())),
            "frac" | "dfrac" | "tfrac" | "cfrac" => self.read_digit_arguments("frac", 2),
            "binom" | "dbinom" | "tbinom" => self.read_digit_arguments("binom", 2),
            "sqrt" => self.read_digit_arguments("sqrt", 1),
            "pi" => self.tokens.push(Token::Symbol("π".to_owned())),
            "begin" => self.begin_environment(),
            "end" => match self.take_argument() {
                Some(name) if is_aligned(name) => self.aligned = self.aligned.saturating_sub(1),
                _ => self.tokens.push(Token::Mark('⟧')),
            },
            // The argument of these commands only changes the appearance.
            "color" | "textcolor" | "hspace" | "vspace" | "phantom" | "hphantom" => {
                self.take_argument();
            }
            "mathbb" => {
                let set = self.take_argument().unwrap_or_default().to_owned();
                self.tokens.push(Token::Symbol(format!("set {set}")));
            }
            "ldots" | "dots" | "cdots" => self.tokens.push(Token::Mark('…')),
            name => self.tokens.push(match greek(name) {
                Some(letter) => Token::Symbol(letter.to_owned()),
                None => Token::Command(name.to_owned()),
            }),
        }
        Ok(())
    }

    /// Takes the content of the braces that follow, if they follow.
    fn take_argument(&mut self) -> Option<&'a str> {
        let inside = self.rest.trim_start().strip_prefix('{')?;
        let mut depth = 0;
        for (at, byte) in inside.bytes().enumerate() {
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 0 => {
                    self.rest = &inside[at + 1..];
                    return Some(&inside[..at]);
                }
                b'}' => depth -= 1,
                _ => {}
            }
        }
        None
    }

    /// Reads the argument of a text command as words; numbers and formulas in it are read as usual.
    fn read_text(&mut self, command: &str) -> Result<(), Stop> {
        let Some(inside) = self.take_argument() else {
            return Ok(());
        };
        if command == "mathrm" && matches!(inside.trim(), "e" | "i") {
            let letter = Token::Symbol(inside.trim().to_owned());
            self.tokens.push(letter);
            return Ok(());
        }
        let rest = std::mem::replace(&mut self.rest, inside);
        self.read_tokens(true)?;
        self.rest = rest;
        Ok(())
    }

    /// Reads single digits as arguments where braces are missing, as LaTeX does: `\frac12`,
    /// `\sqrt2`.
    fn read_digit_arguments(&mut self, command: &str, arguments: usize) {
        self.tokens.push(Token::Command(command.to_owned()));
        for _ in 0..arguments {
            let rest = self.rest.trim_start();
            if !rest.starts_with(|c: char| c.is_ascii_digit()) {
                break;
            }
            let digit = i64::from(rest.as_bytes()[0] - b'0');
            self.tokens.push(Token::Number(Rational::from(digit), 0));
            self.rest = &rest[1..];
        }
    }

    fn begin_environment(&mut self) {
        let environment = self.take_argument().unwrap_or_default();
        match environment {
            "array" => {
                self.take_argument();
                self.tokens.push(Token::Mark('⟦'));
            }
            "pmatrix" | "bmatrix" | "matrix" | "Bmatrix" | "smallmatrix" => {
                self.tokens.push(Token::Mark('⟦'));
            }
            name if is_aligned(name) => self.aligned += 1,
            "cases" => {
                self.tokens.push(Token::Command("cases".to_owned()));
                self.tokens.push(Token::Mark('⟦'));
            }
            other => self.tokens.push(Token::Command(other.to_owned())),
        }
    }

    /// Ends a line of an aligned environment: the next line continues the equation or begins
    /// another.
    fn end_line(&mut self) {
        let space =
            |text: &'a str| text.trim_start_matches(|c: char| c.is_whitespace() || c == '&');
        let mut rest = self.rest.trim_start();
        // Vertical space after a line break: `\\[4pt]`.
        if let Some(inside) = rest.strip_prefix('[')
            && let Some(end) = inside.find(']')
            && inside.starts_with(|c: char| c.is_ascii_digit())
            && inside[..end].ends_with(['t', 'm', 'x', 'n'])
        {
            rest = &inside[end + 1..];
        }
        self.rest = space(rest);
        let continuing = ["=", "<", ">", "≤", "≥", "\\le", "\\ge", "\\approx", "\\end"];
        if !(self.rest.is_empty() || continuing.iter().any(|sign| self.rest.starts_with(sign))) {
            self.tokens.push(Token::Mark(','));
        }
    }

    /// Reads a run of letters: a function, a word, a unit, or a product of variables.
    fn read_letters(&mut self, in_text: bool) {
        let letter = |c: char| c == 'π' || greek(c.encode_utf8(&mut [0; 4])).is_some();
        let first = self.rest.chars().next().map_or(0, char::len_utf8);
        let end = if self.rest.starts_with(letter) {
            first
        } else {
            self.rest
                .find(|c: char| !c.is_alphabetic() || letter(c))
                .unwrap_or(self.rest.len())
        };
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        let lower = run.to_lowercase();
        if run.chars().nth(1).is_none() {
            self.tokens.push(match greek(run) {
                _ if in_text && run != "π" => Token::Word(run.to_owned()),
                Some(letter) => Token::Symbol(letter.to_owned()),
                None if run == "ℝ" => Token::Symbol("set R".to_owned()),
                None => Token::Symbol(run.to_owned()),
            });
        } else if let "sqrt" | "cbrt" = &*lower {
            self.tokens.push(Token::Command(lower));
        } else if FunctionName::parse(&lower).is_some() {
            self.tokens.push(Token::Command(lower));
        } else if let "infinity" | "inf" | "oo" = &*lower {
            self.tokens.push(Token::Mark('∞'));
        } else if lower == "pi" {
            self.tokens.push(Token::Symbol("π".to_owned()));
        } else if let Some(letter) = greek(run).filter(|_| !in_text) {
            self.tokens.push(Token::Symbol(letter.to_owned()));
        } else if in_text
            || run.len() > 3
            || is_unit(run)
            || SHORT_WORDS.contains(&&*lower)
            || !run.is_ascii()
        {
            let unit = is_unit(run);
            self.tokens
                .push(Token::Word(if unit { run.to_owned() } else { lower }));
        } else {
            let letters = run.chars().map(|letter| Token::Symbol(letter.into()));
            self.tokens.extend(letters);
        }
    }

    fn read_character(&mut self, character: char) -> Result<(), Stop> {
        let number = |value: i64| Token::Number(Rational::from(value), 0);
        match character {
            '&' if self.aligned > 0 => {}
            _ if superscript(character).is_some() => {
                let behind = self.rest.find(|c| superscript(c).is_none());
                let (run, rest) = self.rest.split_at(behind.unwrap_or(self.rest.len()));
                let run: String = std::iter::once(character)
                    .chain(run.chars())
                    .filter_map(superscript)
                    .collect();
                self.rest = rest;
                self.tokens.extend([Token::Mark('^'), Token::Mark('{')]);
                let digits = run.strip_prefix('-').unwrap_or(&run);
                if digits.len() < run.len() {
                    self.tokens.push(Token::Mark('-'));
                }
                let none = Separators::default();
                if let Some((value, places, _)) = read_numeral(digits, none, self.fuel)? {
                    self.tokens.push(Token::Number(value, places));
                }
                self.tokens.push(Token::Mark('}'));
            }
            _ if let Some((top, bottom)) = vulgar(character) => {
                let frac = Token::Command("frac".to_owned());
                self.tokens.extend([frac, number(top), number(bottom)]);
            }
            '√' => self.tokens.push(Token::Command("sqrt".to_owned())),
            '<' | '>' | '!' if self.rest.starts_with('=') => {
                self.rest = &self.rest[1..];
                self.push_mark(match character {
                    '<' => '≤',
                    '>' => '≥',
                    _ => '≠',
                });
            }
            '*' if self.rest.starts_with('*') => {
                self.rest = &self.rest[1..];
                self.push_mark('^');
            }
            other => self.push_mark(Token::mark_of_character(other)),
        }
        Ok(())
    }
}

/// Returns true for environments that only align their lines.
fn is_aligned(environment: &str) -> bool {
    matches!(
        environment.trim_end_matches('*'),
        "aligned" | "align" | "alignat" | "gather" | "gathered" | "split" | "equation" | "eqnarray"
    )
}

/// Returns the digit or sign that a superscript character denotes.
fn superscript(c: char) -> Option<char> {
    Some(match c {
        '⁰' => '0',
        '¹' => '1',
        '²' => '2',
        '³' => '3',
        '⁴'..='⁹' => char::from_digit(c as u32 - '⁰' as u32, 10)?,
        '⁻' => '-',
        _ => return None,
    })
}

/// Numerator and denominator of a fraction that is one character.
fn vulgar(c: char) -> Option<(i64, i64)> {
    Some(match c {
        '½' => (1, 2),
        '⅓' => (1, 3),
        '⅔' => (2, 3),
        '¼' => (1, 4),
        '¾' => (3, 4),
        '⅕' => (1, 5),
        '⅖' => (2, 5),
        '⅗' => (3, 5),
        '⅘' => (4, 5),
        '⅙' => (1, 6),
        '⅚' => (5, 6),
        '⅛' => (1, 8),
        '⅜' => (3, 8),
        '⅝' => (5, 8),
        '⅞' => (7, 8),
        _ => return None,
    })
}
