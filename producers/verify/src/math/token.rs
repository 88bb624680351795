use super::rational::Rational;

/// Smallest unit of an answer that has a meaning of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// Number, and the number of digits after its point.
    Number(Rational, u32),
    /// Latin or Greek letter.
    Symbol(String),
    /// Word of a language, a unit, or a letter in `\text{}`.
    Word(String),
    /// Command with arguments, function, or unknown command.
    Command(String),
    /// Any other character or command, in one form each: `\cdot` and `×` are `*`, `\{` is `⦃`, the
    /// braces of LaTeX's groups are `{` and `}`, those of matrices `⟦` and `⟧`, and a matrix row
    /// ends with a line feed.
    Mark(char),
}

impl Token {
    /// Returns true if the token is this mark.
    pub(crate) fn is(&self, mark: char) -> bool {
        *self == Self::Mark(mark)
    }

    /// Returns the mark that a LaTeX command draws.
    pub(crate) fn mark_of_command(command: &str) -> Option<char> {
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

    /// Returns the mark that a character is another form of, or the character itself.
    pub(crate) fn mark_of_character(character: char) -> char {
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

/// Returns true for commands that change the appearance, not the meaning.
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

/// Returns true for commands whose argument is text.
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

/// Returns the Greek letter of a command name or character.
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
