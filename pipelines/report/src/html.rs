//! Conversion of text to HTML.

use std::fmt;

/// Text whose `Display` replaces the characters that HTML would read as markup, and makes visible
/// those that a reader would not see: control characters, and those that change the direction of
/// the text around them. Line breaks and tabs are kept.
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: AsRef<str>> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.as_ref().chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                c if is_hidden(c) => write!(f, "[U+{:04X}]", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// Returns true for characters that have no picture of their own and are not needed to write a
/// language: controls, marks and overrides of direction, invisible spaces, tags, and code points
/// that are no characters.
fn is_hidden(c: char) -> bool {
    let kept = matches!(c, '\n' | '\t');
    let control = c.is_control() && !kept;
    let single = matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}'
    );
    let block = matches!(
        c,
        '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fdd0}'..='\u{fdef}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    control || single || block || u32::from(c) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::Escaped;

    #[test]
    fn markup_and_hidden_characters_are_text() {
        for (text, html) in [
            ("<b a=\"1\">&amp;", "&lt;b a=&quot;1&quot;&gt;&amp;amp;"),
            ("a\u{202e}b\u{2066}", "a[U+202E]b[U+2066]"),
            ("\0\u{1b}[31m\r\n\t", "[U+0000][U+001B][31m[U+000D]\n\t"),
            (
                "\u{85}\u{7f}\u{feff}\u{e0041}\u{ffff}",
                "[U+0085][U+007F][U+FEFF][U+E0041][U+FFFF]",
            ),
            ("שלום, ü, 数, 👩‍🚀", "שלום, ü, 数, 👩‍🚀"),
        ] {
            assert_eq!(Escaped(text).to_string(), html);
        }
    }
}
