//! Arguments of filters and methods, given by position or by name as in Python calls.

use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind};

use super::python::text;

/// Arguments of one call.
pub(super) struct Arguments<'a> {
    places: &'a [Value],
    names: Kwargs,
}

impl<'a> Arguments<'a> {
    pub(super) fn of(arguments: &'a [Value]) -> Result<Self, Error> {
        let (places, names) = from_args(arguments)?;
        Ok(Self { places, names })
    }

    /// Returns the argument at position `place` or named `name`; `None` if neither is given.
    pub(super) fn value(&self, place: usize, name: &str) -> Result<Option<Value>, Error> {
        match self.places.get(place) {
            Some(value) => Ok(Some(value.clone())),
            None if self.names.has(name) => Ok(Some(self.names.get(name)?)),
            None => Ok(None),
        }
    }

    /// Returns the argument at position `place` or named `name`, where Jinja's none counts as not
    /// given.
    pub(super) fn given(&self, place: usize, name: &str) -> Result<Option<Value>, Error> {
        Ok(self.value(place, name)?.filter(|value| !value.is_none()))
    }

    /// Returns a string argument, if one is given.
    pub(super) fn string(&self, place: usize, name: &str) -> Result<Option<String>, Error> {
        let value = self.given(place, name)?;
        value.map(|value| string(&value)).transpose()
    }

    /// Returns an integer argument, if one is given.
    pub(super) fn integer(&self, place: usize, name: &str) -> Result<Option<i64>, Error> {
        let value = self.given(place, name)?;
        value.map(i64::try_from).transpose()
    }

    /// Returns the truth value of an argument; `None` if it is not given.
    pub(super) fn flag(&self, place: usize, name: &str) -> Result<Option<bool>, Error> {
        Ok(self.value(place, name)?.map(|value| value.is_true()))
    }

    /// Refuses more than `most` positional arguments, and names that nobody read.
    pub(super) fn end(&self, most: usize) -> Result<(), Error> {
        if self.places.len() > most {
            return Err(Error::from(ErrorKind::TooManyArguments));
        }
        self.names.assert_all_used()
    }
}

/// Returns the text of a value, which must be a string.
pub(super) fn string(value: &Value) -> Result<String, Error> {
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| wrong(format!("expected a string, not {}", value.kind())))
}

/// Creates an error of the Jinja engine's type.
pub(super) fn wrong(problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

/// Returns the value if Python can iterate over it. The engine would treat `None` as an empty list.
pub(super) fn iterable(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::None => Err(wrong("None cannot be iterated over")),
        ValueKind::Bool | ValueKind::Number => {
            let problem = format!("{} cannot be iterated over", text(value));
            Err(wrong(problem))
        }
        _ => Ok(value.clone()),
    }
}
