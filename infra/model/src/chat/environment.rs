//! Jinja environment that matches the one in which Hugging Face renders chat templates.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind};

use super::{filters, methods, operators, python};

/// Creates an environment with the settings, functions and filters of transformers, and with the
/// methods of Python's strings, lists and dictionaries.
pub(super) fn python_like() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    // The delimiters are Jinja's own, which cannot clash.
    if let Ok(syntax) = syntax.trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(methods::call);
    environment
        .set_formatter(|out, _, value| out.write_str(&python::text(value)).map_err(Error::from));
    environment.add_function("raise_exception", |message: &Value| {
        Err::<Value, _>(Error::new(
            ErrorKind::InvalidOperation,
            python::text(message),
        ))
    });
    // UTC, so that producers on several machines render the same text.
    environment.add_function("strftime_now", |format: &str| {
        jiff::fmt::strtime::format(
            format,
            &jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC),
        )
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
    });
    filters::add(&mut environment);
    operators::add(&mut environment);
    environment
}
