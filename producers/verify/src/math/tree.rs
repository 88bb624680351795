use super::rational::Rational;

/// Syntax tree of an answer, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    /// Number, and the number of digits after its point.
    Number(Rational, u32),
    Constant(Constant),
    Symbol(String),
    Sum(Vec<Tree>),
    Product(Vec<Tree>),
    Negative(Box<Tree>),
    Quotient(Box<Tree>, Box<Tree>),
    Power(Box<Tree>, Box<Tree>),
    /// Root: degree and radicand.
    Root(Box<Tree>, Box<Tree>),
    Call(FunctionName, Vec<Tree>),
    /// Operand after a ±, or after a ∓ if the flag is true.
    Either(bool, Box<Tree>),
    Percent(Box<Tree>),
    Degree(Box<Tree>),
    Unit(Box<Tree>, String),
    /// Ordered items between brackets: opening bracket, items, closing bracket.
    List(char, Vec<Tree>, char),
    /// Unordered items; true if braces are written around them.
    Set(Vec<Tree>, bool),
    Combined(Box<Tree>, char, Box<Tree>),
    /// Chain of relations: a = b < c.
    Relation(Box<Tree>, Vec<(char, Tree)>),
    Matrix(Vec<Vec<Tree>>),
}

/// Constants with names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Constant {
    Pi,
    E,
    I,
    Infinity,
}

/// Functions, as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FunctionName {
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
    /// Logarithm with a base, which is the first argument.
    Log,
    /// Logarithm without a base, which may be 10 or e.
    BareLog,
    Abs,
    Floor,
    Ceil,
    Factorial,
    Binomial,
}

impl FunctionName {
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

    /// Returns the inverse function, as which `\sin^{-1}` is read.
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
    /// Direct children of the node.
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

    /// Returns true if a ± or ∓ occurs in the tree.
    pub(crate) fn has_either(&self) -> bool {
        matches!(self, Self::Either(..)) || self.children().into_iter().any(Self::has_either)
    }

    /// Number of digits after the point, if the tree is only a number, with a sign or without.
    pub(crate) fn places(&self) -> Option<u32> {
        match self {
            Self::Number(_, places) => Some(*places),
            Self::Negative(number) => number.places(),
            _ => None,
        }
    }

    /// Name of the tree, if it is a form that is given a value: `x`, `f(x)`, `(x, y)`.
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
