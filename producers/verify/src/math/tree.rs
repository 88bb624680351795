use super::rational::Rational;

/// An answer as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    /// A number, and the digits behind its point.
    Number(Rational, u32),
    Constant(Constant),
    Symbol(String),
    Sum(Vec<Tree>),
    Product(Vec<Tree>),
    Negative(Box<Tree>),
    Quotient(Box<Tree>, Box<Tree>),
    Power(Box<Tree>, Box<Tree>),
    /// Degree and radicand.
    Root(Box<Tree>, Box<Tree>),
    Call(Name, Vec<Tree>),
    /// ±, or ∓ where true.
    Either(bool, Box<Tree>),
    Percent(Box<Tree>),
    Degree(Box<Tree>),
    Unit(Box<Tree>, String),
    /// Between brackets, in order.
    List(char, Vec<Tree>, char),
    /// In any order; `true` where braces stand around it.
    Set(Vec<Tree>, bool),
    Combined(Box<Tree>, char, Box<Tree>),
    /// A chain: a = b < c.
    Relation(Box<Tree>, Vec<(char, Tree)>),
    Matrix(Vec<Vec<Tree>>),
}

/// Numbers that have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Constant {
    Pi,
    E,
    I,
    Infinity,
}

/// Functions as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Sinh,
    Cosh,
    Tanh,
    Exp,
    Ln,
    /// To the base that stands first.
    Log,
    /// Without a base: 10 or e.
    BareLog,
    Abs,
    Floor,
    Ceil,
    Factorial,
    Binomial,
}

impl Name {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "tan" | "tg" => Self::Tan,
            "cot" | "ctg" => Self::Cot,
            "sec" => Self::Sec,
            "csc" => Self::Csc,
            "arcsin" | "asin" => Self::Arcsin,
            "arccos" | "acos" => Self::Arccos,
            "arctan" | "atan" | "arctg" => Self::Arctan,
            "sinh" => Self::Sinh,
            "cosh" => Self::Cosh,
            "tanh" => Self::Tanh,
            "exp" => Self::Exp,
            "ln" => Self::Ln,
            "log" => Self::BareLog,
            "abs" => Self::Abs,
            "floor" => Self::Floor,
            "ceil" => Self::Ceil,
            _ => return None,
        })
    }

    /// The function that undoes it, as `\sin^{-1}` is read.
    pub(crate) fn inverse(self) -> Option<Self> {
        match self {
            Self::Sin => Some(Self::Arcsin),
            Self::Cos => Some(Self::Arccos),
            Self::Tan => Some(Self::Arctan),
            _ => None,
        }
    }
}

impl Tree {
    /// The parts it is made of.
    pub(crate) fn children(&self) -> Vec<&Self> {
        match self {
            Self::Number(..) | Self::Constant(_) | Self::Symbol(_) => Vec::new(),
            Self::Sum(all)
            | Self::Product(all)
            | Self::Call(_, all)
            | Self::Set(all, _)
            | Self::List(_, all, _) => all.iter().collect(),
            Self::Negative(one)
            | Self::Either(_, one)
            | Self::Percent(one)
            | Self::Degree(one)
            | Self::Unit(one, _) => vec![one],
            Self::Quotient(a, b)
            | Self::Power(a, b)
            | Self::Root(a, b)
            | Self::Combined(a, _, b) => vec![a, b],
            Self::Relation(first, rest) => std::iter::once(&**first)
                .chain(rest.iter().map(|(_, tree)| tree))
                .collect(),
            Self::Matrix(rows) => rows.iter().flatten().collect(),
        }
    }

    /// Whether a ± or ∓ stands in it.
    pub(crate) fn has_either(&self) -> bool {
        matches!(self, Self::Either(..)) || self.children().into_iter().any(Self::has_either)
    }

    /// The digits behind its point, if it is nothing but a number, with a sign or without.
    pub(crate) fn places(&self) -> Option<u32> {
        match self {
            Self::Number(_, places) => Some(*places),
            Self::Negative(number) => number.places(),
            _ => None,
        }
    }

    /// Its name, if it is one a value is given to: `x`, `f(x)`, `(x, y)`.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Self::Symbol(name) => Some(name.clone()),
            Self::Product(factors) => match factors.as_slice() {
                [Self::Symbol(function), Self::Symbol(_)]
                    if function.starts_with(['f', 'g', 'h', 'F', 'G', 'P', 'Q', 'p', 'q', 'y']) =>
                {
                    Some(function.clone())
                }
                _ => None,
            },
            Self::List(_, items, _) => {
                let names: Option<Vec<String>> = items.iter().map(Self::name).collect();
                names.map(|names| names.join(","))
            }
            _ => None,
        }
    }
}
