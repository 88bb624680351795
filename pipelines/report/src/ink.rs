//! Colours of charts by role. Charts are drawn in placeholder colours that are replaced by CSS
//! variables, so that one page works in light and dark mode.

use plotters::style::RGBColor;

/// Colour by role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// First series.
    First,
    /// Second series.
    Second,
    /// Third series.
    Third,
    /// Fourth series.
    Fourth,
    /// Dashed line of a threshold.
    Rule,
    /// Labels of the axes.
    Label,
    /// Axes and grid lines.
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

    /// Returns the CSS variable of the colour.
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

    /// Returns the placeholder with which charts are drawn; charts use these colours for nothing
    /// else.
    pub(crate) fn placeholder(self) -> RGBColor {
        RGBColor(1, 0, self as u8)
    }
}

/// Converts a drawn chart for use inside the page: replaces placeholder colours by CSS variables,
/// removes the font, the fixed size and the XML namespace, which HTML does not need, and puts `over`
/// on top.
pub(crate) fn adopt(svg: &str, over: &str, width: u32, height: u32) -> String {
    let start = svg.find("<svg").unwrap_or(0);
    let body = svg[start..]
        .find('>')
        .map_or("", |end| &svg[start + end + 1..]);
    let mut out = format!("<svg viewBox=\"0 0 {width} {height}\" aria-hidden=\"true\">{body}");
    for ink in Ink::ALL {
        let RGBColor(r, g, b) = ink.placeholder();
        out = out.replace(&format!("#{r:02X}{g:02X}{b:02X}"), ink.variable());
    }
    let mut out = out
        .replace(" font-family=\"sans-serif\"", "")
        .replace(" opacity=\"1\"", "");
    let end = out.rfind("</svg>").unwrap_or(out.len());
    out.insert_str(end, over);
    out
}
