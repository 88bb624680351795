//! Arguments of filters and methods, by place or by name, as Python's calls give them.

use minijinja::value::{Kwargs, Value, from_args};
use minijinja::{Error, ErrorKind};

/// What a call was given.
pub(super) struct Arguments<'a> {
    places: &'a [Value],
    names: Kwargs,
}

impl<'a> Arguments<'a> {
    pub(super) fn of(arguments: &'a [Value]) -> Result<Self, Error> {
        let (places, names) = from_args(arguments)?;
        Ok(Self { places, names })
    }

    /// The argument at `place`, or called `name`; `None` where there is neither.
    pub(super) fn value(&self, place: usize, name: &str) -> Result<Option<Value>, Error> {
        match self.places.get(place) {
            Some(value) => Ok(Some(value.clone())),
            None if self.names.has(name) => Ok(Some(self.names.get(name)?)),
            None => Ok(None),
        }
    }

    /// The same, where none means that there is no such argument.
    pub(super) fn given(&self, place: usize, name: &str) -> Result<Option<Value>, Error> {
        Ok(self.value(place, name)?.filter(|value| !value.is_none()))
    }

    /// A string, if one is given.
    pub(super) fn string(&self, place: usize, name: &str) -> Result<Option<String>, Error> {
        let value = self.given(place, name)?;
        value.map(|value| string(&value)).transpose()
    }

    /// An integer, if one is given.
    pub(super) fn integer(&self, place: usize, name: &str) -> Result<Option<i64>, Error> {
        let value = self.given(place, name)?;
        value.map(i64::try_from).transpose()
    }

    /// Whether what is given counts as true; `None` where nothing is.
    pub(super) fn flag(&self, place: usize, name: &str) -> Result<Option<bool>, Error> {
        Ok(self.value(place, name)?.map(|value| value.is_true()))
    }

    /// Refuses arguments beyond `most` places, and names nobody asked for.
    pub(super) fn end(&self, most: usize) -> Result<(), Error> {
        if self.places.len() > most {
            return Err(Error::from(ErrorKind::TooManyArguments));
        }
        self.names.assert_all_used()
    }
}

/// A value that must be a string.
pub(super) fn string(value: &Value) -> Result<String, Error> {
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| wrong(format!("expected a string, not {}", value.kind())))
}

/// An error in the engine's words.
pub(super) fn wrong(problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}
