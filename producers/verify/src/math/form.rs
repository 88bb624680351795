//! Normal form of expressions: a quotient of sums of products of atoms. An atom may hold a quotient
//! again, so the types and what walks over all of them are in one file.

use std::collections::BTreeMap;

use num_bigint::BigInt;

use super::rational::Rational;

/// Quotient of sums: the form to which every expression is brought.
///
/// The quotient is not reduced, so equal values may have different forms; [`Ratio::equals`]
/// compares them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ratio {
    pub(crate) top: Poly,
    /// Denominator; never 0, and 1 if it was a single term, by which the numerator is then divided.
    pub(crate) bottom: Poly,
}

/// Sum of monomials with nonzero coefficients.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Poly(pub(super) BTreeMap<Monomial, Rational>);

/// Factor that cannot be simplified by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Atom {
    /// Integer above 1 under a root: a prime, or a large integer without small factors.
    Base(BigInt),
    Pi,
    E,
    /// Imaginary unit.
    I,
    Infinity,
    Symbol(String),
    /// Sum raised to a power that is not multiplied out.
    Sum(Box<Ratio>),
    Call(Function, Vec<Ratio>),
    /// Base with a symbolic power, such as 2^n.
    Raised(Box<Atom>, Monomial),
}

/// Functions that are not expressed by other functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Function {
    Sin,
    Cos,
    Arcsin,
    Arccos,
    Arctan,
    Ln,
    Abs,
    Floor,
    Ceil,
    Factorial,
    Binomial,
    /// Power whose base or exponent has no simpler form.
    Power,
}

/// Product of atoms with nonzero rational powers, in order of the atoms.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Monomial(pub(crate) Vec<(Atom, Rational)>);

impl Atom {
    /// Returns true if distinct products of such atoms, with the powers [`Monomial`] allows, count
    /// as linearly independent: a sum of them is then 0 only if it has no terms.
    ///
    /// Proven for roots of distinct primes (Besicovitch 1940) and for symbols; assumed for π and e.
    pub(crate) fn is_independent(&self, exponent: &Rational) -> bool {
        match self {
            Self::Base(base) => {
                base.bits() <= 26 && !exponent.is_negative() && *exponent < Rational::one()
            }
            Self::Pi | Self::E | Self::I | Self::Infinity | Self::Symbol(_) => true,
            Self::Sum(_) | Self::Call(..) | Self::Raised(..) => false,
        }
    }

    /// Cost of copying and comparing the atom.
    fn weight(&self) -> u64 {
        1 + match self {
            Self::Sum(ratio) => ratio.weight(),
            Self::Call(_, arguments) => arguments.iter().map(Ratio::weight).sum(),
            Self::Raised(base, exponent) => base.weight() + exponent.weight(),
            _ => 0,
        }
    }
}

impl Monomial {
    /// Cost of copying and comparing the product.
    pub(super) fn weight(&self) -> u64 {
        self.0.iter().map(|(atom, _)| 1 + atom.weight()).sum()
    }
}

impl Poly {
    pub(super) fn weight(&self) -> u64 {
        self.0.keys().map(|monomial| 1 + monomial.weight()).sum()
    }

    pub(crate) fn terms(&self) -> impl Iterator<Item = (&Monomial, &Rational)> {
        self.0.iter()
    }
}

impl Ratio {
    fn weight(&self) -> u64 {
        self.top.weight() + self.bottom.weight()
    }

    /// Returns true if no symbol occurs.
    pub(crate) fn is_constant(&self) -> bool {
        let mut symbols = Vec::new();
        self.symbols(&mut symbols);
        symbols.is_empty()
    }

    /// Adds the names of the symbols that occur, each once.
    pub(crate) fn symbols(&self, into: &mut Vec<String>) {
        for poly in [&self.top, &self.bottom] {
            for (monomial, _) in poly.terms() {
                symbols(monomial, into);
            }
        }
    }
}

fn symbols(monomial: &Monomial, into: &mut Vec<String>) {
    for (atom, _) in &monomial.0 {
        atom_symbols(atom, into);
    }
}

fn atom_symbols(atom: &Atom, into: &mut Vec<String>) {
    match atom {
        Atom::Symbol(name) if !into.contains(name) => into.push(name.clone()),
        Atom::Sum(ratio) => ratio.symbols(into),
        Atom::Call(_, arguments) => {
            for argument in arguments {
                argument.symbols(into);
            }
        }
        Atom::Raised(base, exponent) => {
            atom_symbols(base, into);
            symbols(exponent, into);
        }
        _ => {}
    }
}
