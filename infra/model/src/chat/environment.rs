//! Jinja as the chat templates of Hugging Face expect it.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde::Serialize as _;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// An environment with the settings, functions and filters of transformers, and the methods that
/// Python's strings and dictionaries have.
pub(super) fn python_like() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    // The delimiters are Jinja's own, which cannot clash.
    if let Ok(syntax) = syntax.trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, _, value| {
        // As Python spells them.
        match value.kind() {
            ValueKind::Undefined => Ok(()),
            ValueKind::None => out.write_str("None").map_err(Error::from),
            ValueKind::Bool if value.is_true() => out.write_str("True").map_err(Error::from),
            ValueKind::Bool => out.write_str("False").map_err(Error::from),
            _ => write!(out, "{value}").map_err(Error::from),
        }
    });
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, _>(Error::new(ErrorKind::InvalidOperation, message))
    });
    // UTC, so that producers on several machines render one text.
    environment.add_function("strftime_now", |format: &str| {
        jiff::fmt::strtime::format(
            format,
            &jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC),
        )
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
    });
    environment.add_filter("tojson", to_json);
    environment
}

/// `{% generation %}` marks what the assistant wrote, for training on it; rendered, it is its body.
/// Written as an `if`, it keeps whatever whitespace control its tags have.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let (before, tag) = (&rest[..start], &rest[start..start + length]);
        let body = tag[2..].trim_start_matches(['-', '+']);
        let word = body.trim_end_matches(['-', '+']).trim();
        text += before;
        match word {
            "generation" => text += &tag.replacen("generation", "if true", 1),
            "endgeneration" => text += &tag.replacen("endgeneration", "endif", 1),
            _ => text += tag,
        }
        rest = &rest[start + length..];
    }
    text + rest
}

/// `json.dumps(value, ensure_ascii=False, …)`: nothing is escaped for HTML.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the engine hands arguments over by value"
)]
fn to_json(value: &Value, arguments: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    let ensure_ascii: Option<bool> = arguments.get("ensure_ascii")?;
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    let sort_keys: Option<bool> = arguments.get("sort_keys")?;
    arguments.assert_all_used()?;
    if ensure_ascii == Some(true) || sort_keys == Some(true) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "tojson knows ensure_ascii=False and sort_keys=False only",
        ));
    }
    let mut bytes = Vec::new();
    let written = match (indent, separators) {
        (Some(indent), _) => {
            let spaces = " ".repeat(indent);
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        }
        (None, separators) => {
            let [item, key] = separators.map_or_else(
                || Ok([", ".to_owned(), ": ".to_owned()]),
                |given| {
                    <[String; 2]>::try_from(given).map_err(|given| {
                        let problem = format!("tojson takes two separators, not {}", given.len());
                        Error::new(ErrorKind::InvalidOperation, problem)
                    })
                },
            )?;
            let formatter = Separated { item, key };
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        }
    };
    written
        .map_err(|error| error.to_string())
        .and_then(|()| String::from_utf8(bytes).map_err(|error| error.to_string()))
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error))
}

/// JSON on one line with these separators, Python's by default.
struct Separated {
    item: String,
    key: String,
}

impl Separated {
    fn item<W: ?Sized + std::io::Write>(&self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first {
            return Ok(());
        }
        out.write_all(self.item.as_bytes())
    }
}

impl Formatter for Separated {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.item(out, first)
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.item(out, first)
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
    ) -> std::io::Result<()> {
        out.write_all(self.key.as_bytes())
    }
}
