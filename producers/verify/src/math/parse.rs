use super::{
    fuel::{Fuel, Stop},
    rational::Rational,
    token::Token,
    tree::Tree,
};
use crate::scale;

/// Maximum nesting depth of sums, brackets, signs and powers; a pair of brackets takes about three
/// levels. Together with [`NESTS`] it bounds the stack.
const DEPTH: u32 = 150;
/// Maximum number of divisors, factorials, unions and the like in one answer; each nests everything
/// before it.
const NESTS: u32 = 200;
/// Words before an answer that do not change it.
const PREFIXES: [&str; 6] = [
    "approximately",
    "about",
    "exactly",
    "equals",
    "roughly",
    "around",
];

/// Parses an answer: one value, or several that are separated by commas, “and” or “or”.
///
/// # Errors
/// [`Stop::NotMath`] if any part is not mathematics.
pub(crate) fn parse(tokens: &[Token], fuel: &mut Fuel) -> Result<Tree, Stop> {
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        nests: 0,
        bars: 0,
        fuel,
    };
    let tree = parser.list()?;
    if parser.peek().is_some() {
        return Err(Stop::NotMath);
    }
    Ok(tree)
}

/// Recursive-descent parser; operators that bind more strongly than `+` are in `term.rs`.
pub(super) struct Parser<'a, 'f> {
    pub(super) tokens: &'a [Token],
    pub(super) at: usize,
    depth: u32,
    nests: u32,
    /// Number of open absolute-value bars; while there are any, the next bar closes one.
    pub(super) bars: u32,
    pub(super) fuel: &'f mut Fuel,
}

impl<'a> Parser<'a, '_> {
    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn next_is(&self, mark: char) -> bool {
        self.peek().is_some_and(|token| token.is(mark))
    }

    /// Takes the next token if it is this mark.
    pub(super) fn accept(&mut self, mark: char) -> bool {
        let found = self.next_is(mark);
        self.at += usize::from(found);
        found
    }

    /// Takes this mark; fails for any other token.
    pub(super) fn expect(&mut self, mark: char) -> Result<(), Stop> {
        if self.accept(mark) {
            Ok(())
        } else {
            Err(Stop::NotMath)
        }
    }

    /// Takes the next token if it is one of these marks.
    pub(super) fn accept_any(&mut self, marks: &str) -> Option<char> {
        let Some(Token::Mark(mark)) = self.peek() else {
            return None;
        };
        let found = marks.contains(*mark).then_some(*mark);
        self.at += usize::from(found.is_some());
        found
    }

    fn next_is_word(&self, words: &[&str]) -> bool {
        matches!(self.peek(), Some(Token::Word(word)) if words.contains(&word.as_str()))
    }

    /// Runs `part` one nesting level deeper.
    pub(super) fn nested<T>(
        &mut self,
        part: impl FnOnce(&mut Self) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        self.fuel.burn(1)?;
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Stop::TooLarge);
        }
        let found = part(self);
        self.depth -= 1;
        found
    }

    /// Counts an operator that nests everything read before it.
    pub(super) fn count_nesting(&mut self) -> Result<(), Stop> {
        self.nests += 1;
        if self.nests > NESTS {
            return Err(Stop::TooLarge);
        }
        Ok(())
    }

    fn list(&mut self) -> Result<Tree, Stop> {
        let mut items = vec![self.clause()?];
        let (mut either, mut both) = (false, false);
        loop {
            let separated = self.accept_any(",;").is_some();
            let word = self.next_is_word(&["and", "or"]);
            either |= self.next_is_word(&["or"]);
            both |= self.next_is_word(&["and"]);
            self.at += usize::from(word);
            if !(separated || word) {
                break;
            }
            self.count_nesting()?;
            items.push(self.clause()?);
        }
        if items.len() == 1 {
            return Ok(items.remove(0));
        }
        let ranges = items.iter().all(is_inequality);
        let combined = |sign| {
            let all = items.iter().cloned();
            let all = all.reduce(|a, b| Tree::Combined(Box::new(a), sign, Box::new(b)));
            all.ok_or(Stop::NotMath)
        };
        match (ranges, either, both) {
            (true, true, false) => combined('∪'),
            (true, false, true) => combined('∩'),
            _ => Ok(Tree::Set(items, false)),
        }
    }

    /// Reads one item between separators: a value, an equation, an inequality.
    pub(super) fn clause(&mut self) -> Result<Tree, Stop> {
        while self.next_is_word(&PREFIXES) {
            self.at += 1;
        }
        // A leading `≈` or `=` continues the question: `≈ 12`, `= 12`.
        if self.at == 0 {
            self.accept_any("≈=");
        }
        let first = self.side()?;
        let mut rest = Vec::new();
        while let Some(sign) = self.accept_any("=<>≤≥≠≈∈") {
            rest.push((sign, self.side()?));
        }
        // The answer of x ∈ M is M.
        if let [('∈', set)] = rest.as_slice() {
            return Ok(set.clone());
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Ok(Tree::Relation(Box::new(first), rest))
    }

    fn side(&mut self) -> Result<Tree, Stop> {
        let mut tree = self.measured()?;
        while let Some(sign) = self.accept_any("∪∩∖") {
            self.count_nesting()?;
            let right = self.measured()?;
            tree = Tree::Combined(Box::new(tree), sign, Box::new(right));
        }
        Ok(tree)
    }

    /// Reads a ratio or an expression, with the unit after it.
    fn measured(&mut self) -> Result<Tree, Stop> {
        let mut tree = self.sum()?;
        while self.accept(':') {
            self.count_nesting()?;
            let right = self.sum()?;
            tree = Tree::Quotient(Box::new(tree), Box::new(right));
        }
        if self.next_is_word(&["percent", "percents"]) {
            self.at += 1;
            return Ok(Tree::Percent(Box::new(tree)));
        }
        let unit = self.unit()?;
        Ok(if unit.is_empty() {
            tree
        } else {
            Tree::Unit(Box::new(tree), unit)
        })
    }

    /// Reads a unit as one text: `cm`, `cm^2`, `square units`, `km/h`.
    fn unit(&mut self) -> Result<String, Stop> {
        let mut unit = String::new();
        while let Some(Token::Word(word)) = self.peek() {
            if self.next_is_word(&["and", "or"]) {
                break;
            }
            // It multiplies something else than a number, such as a fraction.
            if unit.is_empty() && scale::factor(word).is_some() {
                return Err(Stop::NotMath);
            }
            self.at += 1;
            if unit.ends_with(char::is_alphabetic) {
                unit.push(' ');
            }
            unit.push_str(word);
            if self.accept('^') {
                let braced = self.accept('{');
                let Some(Token::Number(power, _)) = self.peek() else {
                    return Err(Stop::NotMath);
                };
                unit.push('^');
                unit.push_str(&power.top().to_string());
                self.at += 1;
                if braced {
                    self.expect('}')?;
                }
            }
            let worded = matches!(self.tokens.get(self.at + 1), Some(Token::Word(_)));
            if worded && let Some(sign) = self.accept_any("/*") {
                unit.push(sign);
            }
        }
        Ok(unit)
    }

    pub(super) fn sum(&mut self) -> Result<Tree, Stop> {
        self.nested(|parser| {
            let mut terms = vec![parser.term()?];
            while let Some(sign) = parser.accept_any("+-±∓") {
                let term = parser.term()?;
                terms.push(signed(sign, term));
            }
            Ok(if terms.len() == 1 {
                terms.remove(0)
            } else {
                Tree::Sum(terms)
            })
        })
    }

    /// Reads items separated by commas inside brackets; absolute-value bars from outside cannot
    /// close inside.
    pub(super) fn items(&mut self) -> Result<Vec<Tree>, Stop> {
        let bars = std::mem::take(&mut self.bars);
        let items = self.nested(|parser| {
            let mut items = vec![parser.clause()?];
            while parser.accept_any(",;").is_some() {
                items.push(parser.clause()?);
            }
            Ok(items)
        });
        self.bars = bars;
        items
    }

    /// Reads the content of brackets: one value, a tuple or an interval.
    pub(super) fn bracketed(&mut self, open: char) -> Result<Tree, Stop> {
        let (open, closing) = match open {
            // French notation writes (1, 2) as ]1, 2[.
            ']' => ('(', "[]"),
            '[' => ('[', "[])"),
            _ => ('(', ")]"),
        };
        let mut items = self.items()?;
        let close = self.accept_any(closing).ok_or(Stop::NotMath)?;
        let close = if close == '[' { ')' } else { close };
        if items.len() > 1 {
            return Ok(Tree::List(open, items, close));
        }
        Ok(items.remove(0))
    }

    /// Reads the content of set braces: listed elements, or a condition.
    pub(super) fn set(&mut self) -> Result<Tree, Stop> {
        if self.accept('⦄') {
            return Ok(Tree::Set(Vec::new(), true));
        }
        if let Some(set) = self.described() {
            return set;
        }
        let items = self.items()?;
        self.expect('⦄')?;
        Ok(Tree::Set(items, true))
    }

    /// Reads the condition of `\{x \mid x > 2\}` or `\{x \in R : x > 2\}`.
    fn described(&mut self) -> Option<Result<Tree, Stop>> {
        let is = |at: usize, marks: &[char]| {
            let token = self.tokens.get(self.at + at)?;
            marks.iter().any(|&mark| token.is(mark)).then_some(())
        };
        let Some(Token::Symbol(_)) = self.peek() else {
            return None;
        };
        let skipped = if is(1, &['|', ':']).is_some() {
            2
        } else if is(1, &['∈']).is_some() && is(3, &['|', ':']).is_some() {
            4
        } else {
            return None;
        };
        self.at += skipped;
        Some(self.nested(|parser| {
            let list = parser.list()?;
            parser.expect('⦄')?;
            Ok(list)
        }))
    }

    /// Reads the rows of a matrix, or the lines of a list of cases.
    pub(super) fn matrix(&mut self) -> Result<Vec<Vec<Tree>>, Stop> {
        self.nested(|parser| {
            let mut rows = vec![vec![parser.clause()?]];
            loop {
                if parser.accept('⟧') {
                    return Ok(rows);
                }
                match parser.accept_any("\n&,") {
                    Some('\n') if parser.accept('⟧') => return Ok(rows),
                    // In a list of cases, a comma ends a line.
                    Some('\n' | ',') => rows.push(Vec::new()),
                    Some(_) => {}
                    None => return Err(Stop::NotMath),
                }
                let cell = parser.clause()?;
                if let Some(row) = rows.last_mut() {
                    row.push(cell);
                }
            }
        })
    }
}

/// Applies a sign to a term.
pub(super) fn signed(sign: char, term: Tree) -> Tree {
    match sign {
        '-' => Tree::Negative(Box::new(term)),
        '±' | '∓' => Tree::Either(sign == '∓', Box::new(term)),
        _ => term,
    }
}

fn is_inequality(tree: &Tree) -> bool {
    matches!(tree, Tree::Relation(_, rest) if rest.iter().all(|(sign, _)| "<>≤≥≠".contains(*sign)))
}

/// Builds a number from an integer.
pub(super) fn integer(value: i64) -> Tree {
    Tree::Number(Rational::from(value), 0)
}
