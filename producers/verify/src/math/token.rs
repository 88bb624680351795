use super::rational::Rational;

/// A piece of an answer that has a meaning of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A number, and the digits behind its point.
    Number(Rational, u32),
    /// A letter, Latin or Greek.
    Symbol(String),
    /// A word of a language, a unit or a letter in `\text{}`.
    Word(String),
    /// A command with arguments, a function, or one that is unknown.
    Command(String),
    /// Everything else, each in one form: `\cdot` and `×` are `*`, `\{` is `⦃`, the braces of
    /// LaTeX's groups are `{` and `}`, those of matrices `⟦` and `⟧`, its rows end with a line feed.
    Mark(char),
}

impl Token {
    /// Whether it is this mark.
    pub(crate) fn is(&self, mark: char) -> bool {
        *self == Self::Mark(mark)
    }

    /// The mark a LaTeX command stands for.
    pub(crate) fn mark(command: &str) -> Option<char> {
        Some(match command {
            "cdot" | "times" | "ast" | "cdotp" | "bullet" => '*',
            "div" => '/',
            "le" | "leq" | "leqslant" => '≤',
            "ge" | "geq" | "geqslant" => '≥',
            "lt" => '<',
            "gt" => '>',
            "ne" | "neq" => '≠',
            "approx" | "simeq" | "doteq" => '≈',
            "equiv" => '=',
            "pm" => '±',
            "mp" => '∓',
            "cup" => '∪',
            "cap" => '∩',
            "setminus" | "smallsetminus" | "backslash" => '∖',
            "in" => '∈',
            "infty" => '∞',
            "circ" | "degree" => '°',
            "emptyset" | "varnothing" => '∅',
            "{" | "lbrace" => '⦃',
            "}" | "rbrace" => '⦄',
            "lbrack" => '[',
            "rbrack" => ']',
            "lfloor" => '⌊',
            "rfloor" => '⌋',
            "lceil" => '⌈',
            "rceil" => '⌉',
            "langle" => '(',
            "rangle" => ')',
            "lvert" | "rvert" | "vert" | "mid" => '|',
            "|" | "lVert" | "rVert" | "Vert" => '‖',
            "%" => '%',
            "colon" => ':',
            "prime" => '\'',
            "_" => '_',
            "&" => '&',
            "\\" => '\n',
            "to" | "rightarrow" | "Rightarrow" | "implies" => '→',
            _ => return None,
        })
    }

    /// The mark a character stands for, or the character itself.
    pub(crate) fn plain(character: char) -> char {
        match character {
            '×' | '·' | '∙' | '⋅' | '∗' => '*',
            '÷' | '∕' => '/',
            '−' | '–' | '—' => '-',
            '⩽' | '≦' => '≤',
            '⩾' | '≧' => '≥',
            '≃' | '≅' => '≈',
            'º' | '˚' => '°',
            '（' | '⟨' => '(',
            '）' | '⟩' => ')',
            '，' | '、' => ',',
            '；' => ';',
            '＝' => '=',
            '％' => '%',
            '∣' => '|',
            '′' | '’' => '\'',
            other => other,
        }
    }
}

/// Commands that change how something looks, and not what it is.
pub(crate) fn is_style(command: &str) -> bool {
    matches!(
        command,
        "left"
            | "right"
            | "middle"
            | "big"
            | "Big"
            | "bigg"
            | "Bigg"
            | "bigl"
            | "bigr"
            | "Bigl"
            | "Bigr"
            | "biggl"
            | "biggr"
            | "displaystyle"
            | "textstyle"
            | "scriptstyle"
            | "limits"
            | "boxed"
            | "fbox"
            | "mathbf"
            | "boldsymbol"
            | "bm"
            | "mathit"
            | "mathsf"
            | "mathtt"
            | "mathcal"
            | "mathscr"
            | "mathfrak"
            | "vec"
            | "overrightarrow"
            | "underline"
            | "quad"
            | "qquad"
            | "!"
            | ","
            | ":"
            | ";"
            | ">"
            | " "
            | "/"
            | "$"
            | "("
            | ")"
            | "["
            | "]"
            | "ensuremath"
            | "nonumber"
            | "mathopen"
            | "mathclose"
            | "mathrel"
            | "mathbin"
            | "hfill"
            | "protect"
            | "relax"
            | "euro"
            | "pounds"
    )
}

/// Commands whose argument is words.
pub(crate) fn is_text(command: &str) -> bool {
    matches!(
        command,
        "text"
            | "textbf"
            | "textit"
            | "textrm"
            | "textsf"
            | "texttt"
            | "textnormal"
            | "mbox"
            | "hbox"
            | "mathrm"
            | "rm"
            | "operatorname"
            | "emph"
            | "textsc"
            | "unit"
            | "si"
    )
}

/// The letter a Greek command or character is.
pub(crate) fn greek(name: &str) -> Option<&'static str> {
    const GREEK: [(&str, &str); 28] = [
        ("alpha", "α"),
        ("beta", "β"),
        ("gamma", "γ"),
        ("delta", "δ"),
        ("epsilon", "ε"),
        ("varepsilon", "ε"),
        ("zeta", "ζ"),
        ("eta", "η"),
        ("theta", "θ"),
        ("vartheta", "θ"),
        ("iota", "ι"),
        ("kappa", "κ"),
        ("lambda", "λ"),
        ("mu", "μ"),
        ("nu", "ν"),
        ("xi", "ξ"),
        ("rho", "ρ"),
        ("sigma", "σ"),
        ("tau", "τ"),
        ("phi", "φ"),
        ("varphi", "φ"),
        ("chi", "χ"),
        ("psi", "ψ"),
        ("omega", "ω"),
        ("Delta", "Δ"),
        ("Omega", "Ω"),
        ("Phi", "Φ"),
        ("ell", "ℓ"),
    ];
    let found = GREEK
        .iter()
        .find(|(long, short)| *long == name || *short == name);
    found.map(|(_, short)| *short)
}
