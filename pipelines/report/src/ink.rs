//! Colours by role. Charts are drawn with placeholder colours, which become CSS variables, so
//! that one page reads well in light and dark.

use plotters::style::RGBColor;

/// A colour by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// The first series.
    First,
    /// The second series.
    Second,
    /// The third series.
    Third,
    /// The fourth series.
    Fourth,
    /// Thresholds.
    Rule,
    /// Axis labels.
    Label,
    /// Grid lines.
    Grid,
}

impl Ink {
    const ALL: [Self; 7] = [
        Self::First,
        Self::Second,
        Self::Third,
        Self::Fourth,
        Self::Rule,
        Self::Label,
        Self::Grid,
    ];

    /// The CSS variable.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::First => "var(--first)",
            Self::Second => "var(--second)",
            Self::Third => "var(--third)",
            Self::Fourth => "var(--fourth)",
            Self::Rule => "var(--rule)",
            Self::Label => "var(--label)",
            Self::Grid => "var(--grid)",
        }
    }

    /// The placeholder a chart is drawn with: no chart has another use for these.
    pub(crate) fn placeholder(self) -> RGBColor {
        RGBColor(1, 0, self as u8)
    }
}

/// Makes a drawn chart part of the page: colours become variables, fonts are the page's, the
/// size is the page's to choose, and the namespace, which HTML does not need, goes.
pub(crate) fn adopt(svg: &str, width: u32, height: u32) -> String {
    let start = svg.find("<svg").unwrap_or(0);
    let body = svg[start..]
        .find('>')
        .map_or("", |end| &svg[start + end + 1..]);
    let mut out = format!("<svg viewBox=\"0 0 {width} {height}\" aria-hidden=\"true\">{body}");
    for ink in Ink::ALL {
        let RGBColor(r, g, b) = ink.placeholder();
        out = out.replace(&format!("#{r:02X}{g:02X}{b:02X}"), ink.variable());
    }
    out.replace(" font-family=\"sans-serif\"", "")
        .replace(" opacity=\"1\"", "")
}
