use super::{
    fuel::Stop,
    parse::{Parser, integer, signed},
    token::Token,
    tree::{Constant, FunctionName, Tree},
};

impl Parser<'_, '_> {
    /// Reads factors and divisors from left to right: a/bc is (a/b)c.
    pub(super) fn term(&mut self) -> Result<Tree, Stop> {
        let mut factors = vec![self.signed_factor()?];
        loop {
            if self.accept('*') {
                factors.push(self.signed_factor()?);
            } else if self.accept('/') {
                self.count_nesting()?;
                let divisor = self.signed_factor()?;
                let dividend = product(factors);
                factors = vec![Tree::Quotient(Box::new(dividend), Box::new(divisor))];
            } else if self.may_follow() {
                let is_mixed = self.begins_mixed(factors.last());
                let factor = self.factor()?;
                match factors.pop() {
                    Some(whole) if is_mixed => factors.push(mixed(whole, factor)),
                    last => factors.extend(last.into_iter().chain([factor])),
                }
            } else if let Some(fraction) = self.spaced_fraction(factors.last()) {
                let whole = factors.pop().ok_or(Stop::NotMath)?;
                factors.push(mixed(whole, fraction));
            } else {
                return Ok(product(factors));
            }
        }
    }

    fn signed_factor(&mut self) -> Result<Tree, Stop> {
        match self.accept_any("+-±∓") {
            Some(sign) => {
                let factor = self.nested(Self::signed_factor)?;
                Ok(signed(sign, factor))
            }
            None => self.factor(),
        }
    }

    /// Returns true if the next token may begin a factor without a multiplication sign.
    fn may_follow(&self) -> bool {
        match self.peek() {
            Some(Token::Symbol(_)) => true,
            Some(Token::Command(name)) => !matches!(name.as_str(), "cases" | "vmatrix"),
            Some(Token::Mark('|')) => self.bars == 0,
            Some(Token::Mark(mark)) => "({⌊⌈∞".contains(*mark),
            // A number follows without a sign in 3!7!, but not in 3 7.
            Some(Token::Number(..)) => self.at > 0 && self.tokens[self.at - 1].is('!'),
            _ => false,
        }
    }

    /// Returns true if a whole number and the fraction of integers that follows form a mixed
    /// number.
    fn begins_mixed(&self, whole: Option<&Tree>) -> bool {
        let is_frac = matches!(self.peek(), Some(Token::Command(name)) if name == "frac");
        let number = |at: usize| matches!(self.tokens.get(at), Some(Token::Number(_, 0)));
        let mark = |at: usize, mark| self.tokens.get(at).is_some_and(|token| token.is(mark));
        let mut at = self.at + 1;
        for _ in 0..2 {
            if number(at) {
                at += 1;
            } else if mark(at, '{') && number(at + 1) && mark(at + 2, '}') {
                at += 3;
            } else {
                return false;
            }
        }
        is_frac && whole.is_some_and(is_whole)
    }

    /// Reads the `1/2` of `3 1/2`.
    fn spaced_fraction(&mut self, whole: Option<&Tree>) -> Option<Tree> {
        whole.filter(|whole| is_whole(whole))?;
        let rest = self.tokens.get(self.at..self.at + 3)?;
        let [Token::Number(top, 0), slash, Token::Number(bottom, 0)] = rest else {
            return None;
        };
        if !slash.is('/') || top >= bottom {
            return None;
        }
        self.at += 3;
        let [top, bottom] = [top, bottom].map(|value| Box::new(Tree::Number(value.clone(), 0)));
        Some(Tree::Quotient(top, bottom))
    }

    /// Reads a primary with its powers, factorials, percent and degree signs.
    fn factor(&mut self) -> Result<Tree, Stop> {
        let mut tree = self.nested(Self::primary)?;
        while let Some(sign) = self.accept_any("!%°^") {
            self.count_nesting()?;
            tree = match sign {
                '!' => Tree::Call(FunctionName::Factorial, vec![tree]),
                '%' => Tree::Percent(Box::new(tree)),
                '^' if !self.accept_degree() => {
                    let exponent = self.nested(Self::exponent)?;
                    Tree::Power(Box::new(tree), Box::new(exponent))
                }
                _ => Tree::Degree(Box::new(tree)),
            };
        }
        Ok(tree)
    }

    fn accept_degree(&mut self) -> bool {
        let inside = |at: usize, mark| self.tokens.get(self.at + at).is_some_and(|t| t.is(mark));
        let braced = inside(0, '{') && inside(1, '°') && inside(2, '}');
        let found = braced || inside(0, '°');
        self.at += usize::from(found) + 2 * usize::from(braced);
        found
    }

    /// Reads an exponent; without braces too it is the whole number, so 2^10 is 1024, unlike in
    /// LaTeX.
    fn exponent(&mut self) -> Result<Tree, Stop> {
        if let Some(sign) = self.accept_any("+-") {
            let exponent = self.nested(Self::exponent)?;
            return Ok(signed(sign, exponent));
        }
        let base = self.primary()?;
        // Repeated powers associate to the right.
        if self.accept('^') {
            let exponent = self.nested(Self::exponent)?;
            return Ok(Tree::Power(Box::new(base), Box::new(exponent)));
        }
        Ok(base)
    }

    fn primary(&mut self) -> Result<Tree, Stop> {
        let token = self.peek().ok_or(Stop::NotMath)?;
        self.at += 1;
        match token {
            Token::Number(value, places) => {
                let number = Tree::Number(value.clone(), *places);
                if self.accept('_') {
                    let base = self.subscript()?;
                    return Ok(Tree::Unit(Box::new(number), format!("base {base}")));
                }
                Ok(number)
            }
            Token::Symbol(name) => self.symbol(name),
            Token::Command(name) => self.command(name),
            Token::Mark('(') => self.bracketed('('),
            Token::Mark('[') => self.bracketed('['),
            Token::Mark(']') => self.bracketed(']'),
            Token::Mark('⦃') => self.set(),
            Token::Mark('∅') => Ok(Tree::Set(Vec::new(), true)),
            Token::Mark('∞') => Ok(Tree::Constant(Constant::Infinity)),
            Token::Mark('{') => self.group(),
            Token::Mark('|') => {
                self.bars += 1;
                let inside = self.sum();
                self.bars -= 1;
                self.expect('|')?;
                Ok(Tree::Call(FunctionName::Abs, vec![inside?]))
            }
            Token::Mark('⌊') => self.closed('⌋', FunctionName::Floor),
            Token::Mark('⌈') => self.closed('⌉', FunctionName::Ceil),
            Token::Mark('⟦') => {
                let rows = self.matrix()?;
                Ok(Tree::Matrix(rows))
            }
            Token::Word(_) | Token::Mark(_) => Err(Stop::NotMath),
        }
    }

    fn closed(&mut self, close: char, name: FunctionName) -> Result<Tree, Stop> {
        let inside = self.sum()?;
        self.expect(close)?;
        Ok(Tree::Call(name, vec![inside]))
    }

    /// Reads a group in LaTeX's braces, after the opening one; commas make it a set.
    fn group(&mut self) -> Result<Tree, Stop> {
        let mut items = self.items()?;
        self.expect('}')?;
        Ok(if items.len() == 1 {
            items.remove(0)
        } else {
            Tree::Set(items, false)
        })
    }

    fn symbol(&mut self, name: &str) -> Result<Tree, Stop> {
        let mut name = name.to_owned();
        if self.accept('_') {
            name.push('_');
            name.push_str(&self.subscript()?);
        }
        while self.accept('\'') {
            name.push('\'');
        }
        Ok(match name.as_str() {
            "π" => Tree::Constant(Constant::Pi),
            "e" => Tree::Constant(Constant::E),
            "i" => Tree::Constant(Constant::I),
            _ => Tree::Symbol(name),
        })
    }

    /// Reads a subscript as text: one token, or a group.
    fn subscript(&mut self) -> Result<String, Stop> {
        let mut text = String::new();
        let mut depth = 0;
        while let Some(token) = self.peek() {
            self.at += 1;
            self.fuel.burn(1)?;
            match token {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => depth -= 1,
                Token::Mark(mark) => text.push(*mark),
                Token::Number(value, _) => text.push_str(&value.top().to_string()),
                Token::Symbol(name) | Token::Word(name) | Token::Command(name) => {
                    text.push_str(name);
                }
            }
            if depth <= 0 {
                return Ok(text);
            }
        }
        Err(Stop::NotMath)
    }

    fn command(&mut self, name: &str) -> Result<Tree, Stop> {
        match name {
            "frac" => {
                let (top, bottom) = (self.argument()?, self.argument()?);
                Ok(Tree::Quotient(Box::new(top), Box::new(bottom)))
            }
            "binom" => {
                let (top, bottom) = (self.argument()?, self.argument()?);
                Ok(Tree::Call(FunctionName::Binomial, vec![top, bottom]))
            }
            "sqrt" => {
                let degree = if self.accept('[') {
                    let degree = self.sum()?;
                    self.expect(']')?;
                    degree
                } else {
                    integer(2)
                };
                let radicand = self.argument()?;
                Ok(Tree::Root(Box::new(degree), Box::new(radicand)))
            }
            "cbrt" => {
                let radicand = self.argument()?;
                Ok(Tree::Root(Box::new(integer(3)), Box::new(radicand)))
            }
            "cases" => {
                self.expect('⟦')?;
                let rows = self.matrix()?;
                if rows.iter().any(|row| row.len() > 1) {
                    return Err(Stop::NotMath);
                }
                Ok(Tree::Set(rows.into_iter().flatten().collect(), false))
            }
            "lg" => {
                let argument = self.applied()?;
                Ok(Tree::Call(FunctionName::Log, vec![integer(10), argument]))
            }
            "bar" | "overline" | "hat" | "tilde" | "angle" | "triangle" => {
                let marked = self.subscript()?;
                Ok(Tree::Symbol(format!("{name} {marked}")))
            }
            name => match FunctionName::parse(name) {
                Some(function) => self.function(function),
                None => Err(Stop::NotMath),
            },
        }
    }

    /// Reads an argument of a command: a group, or a single primary.
    fn argument(&mut self) -> Result<Tree, Stop> {
        self.nested(Self::primary)
    }

    fn function(&mut self, name: FunctionName) -> Result<Tree, Stop> {
        let base = if name == FunctionName::BareLog && self.accept('_') {
            Some(self.argument()?)
        } else {
            None
        };
        let power = if self.accept('^') {
            Some(self.nested(Self::exponent)?)
        } else {
            None
        };
        let argument = self.applied()?;
        let call = |name, argument| match base {
            Some(base) => Tree::Call(FunctionName::Log, vec![base, argument]),
            None => Tree::Call(name, vec![argument]),
        };
        Ok(match (power, name.inverse()) {
            (Some(power), Some(inverse)) if power == signed('-', integer(1)) => {
                call(inverse, argument)
            }
            (Some(power), _) => Tree::Power(Box::new(call(name, argument)), Box::new(power)),
            (None, _) => call(name, argument),
        })
    }

    /// Reads the argument of a function: brackets, or the product that follows, up to the next
    /// function or bracket.
    fn applied(&mut self) -> Result<Tree, Stop> {
        if self.accept('(') {
            return self.nested(|parser| parser.bracketed('('));
        }
        let negative = self.accept('-');
        let mut factors = vec![self.factor()?];
        loop {
            let ends = match self.peek() {
                Some(Token::Command(name)) => FunctionName::parse(name).is_some() || name == "lg",
                Some(Token::Mark('(' | '|')) => true,
                _ => false,
            };
            if ends || !self.may_follow() {
                break;
            }
            factors.push(self.factor()?);
        }
        let argument = product(factors);
        Ok(if negative {
            Tree::Negative(Box::new(argument))
        } else {
            argument
        })
    }
}

fn product(mut factors: Vec<Tree>) -> Tree {
    if factors.len() == 1 {
        factors.remove(0)
    } else {
        Tree::Product(factors)
    }
}

/// Returns true for an integer, with a sign or without.
fn is_whole(tree: &Tree) -> bool {
    match tree {
        Tree::Number(value, 0) => value.is_integer(),
        Tree::Negative(inner) | Tree::Either(_, inner) => is_whole(inner),
        _ => false,
    }
}

/// Combines a whole number and a fraction under the sign of the whole number.
fn mixed(whole: Tree, fraction: Tree) -> Tree {
    match whole {
        Tree::Negative(whole) => Tree::Negative(Box::new(mixed(*whole, fraction))),
        Tree::Either(opposite, whole) => Tree::Either(opposite, Box::new(mixed(*whole, fraction))),
        whole => Tree::Sum(vec![whole, fraction]),
    }
}
