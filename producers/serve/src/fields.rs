//! Fields of a request's JSON object, each taken once; what is left in the end is refused.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// Fields that are not taken yet. A field of value null is one that is not there.
pub(crate) struct Fields {
    /// Path of the object in the request, with its dot; empty for the request itself.
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// Parses the body of a request; an empty one has no fields.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let path = String::new();
        if body.is_empty() {
            let map = Map::new();
            return Ok(Self { path, map });
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self { path, map }),
            Ok(_) => Err(Refusal::new(400, "the body is JSON, and no object")),
            Err(error) => Err(Refusal::new(400, format!("the body is no JSON: {error}"))),
        }
    }

    /// Takes an object inside; one without fields if it is not there.
    pub(crate) fn object(&mut self, name: &str) -> Result<Self, Refusal> {
        let path = format!("{}{name}.", self.path);
        match self.take(name) {
            None => Ok(Self {
                path,
                map: Map::new(),
            }),
            Some(Value::Object(map)) => Ok(Self { path, map }),
            Some(other) => Err(self.wrong(name, "an object", &other)),
        }
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn put(&mut self, name: &str, value: Value) {
        self.map.insert(name.to_owned(), value);
    }

    /// Refuses a field for a reason.
    pub(crate) fn refuse(&self, name: &str, reason: &str) -> Refusal {
        let path = format!("{}{name}", self.path);
        Refusal::field(path.clone(), format!("{path}: {reason}"))
    }

    fn wrong(&self, name: &str, wanted: &str, found: &Value) -> Refusal {
        let shown: String = found.to_string().chars().take(60).collect();
        self.refuse(name, &format!("must be {wanted}, and is {shown}"))
    }

    pub(crate) fn whole(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let found = value.as_u64().filter(|number| range.contains(number));
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        found
            .map(Some)
            .ok_or_else(|| self.wrong(name, &wanted, &value))
    }

    pub(crate) fn number(
        &mut self,
        name: &str,
        fits: impl FnOnce(f64) -> bool,
        wanted: &str,
    ) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let found = value.as_f64().filter(|number| fits(*number));
        found
            .map(Some)
            .ok_or_else(|| self.wrong(name, wanted, &value))
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong(name, "true or false", &other)),
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a text", &other)),
        }
    }

    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(self.wrong(name, "a list", &other)),
        }
    }

    /// Takes fields that change nothing at these values, and refuses any other value.
    pub(crate) fn only(&mut self, fields: &[(&str, Value)]) -> Result<(), Refusal> {
        for (name, neutral) in fields {
            let Some(value) = self.take(name) else {
                continue;
            };
            let numbers = (value.as_f64(), neutral.as_f64());
            let same = match numbers {
                (Some(value), Some(neutral)) => value == neutral,
                _ => value == *neutral,
            };
            if !same {
                return Err(self.wrong(name, &format!("{neutral} here"), &value));
            }
        }
        Ok(())
    }

    /// Takes fields whose values say nothing about the completion.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            let _ignored = self.map.remove(*name);
        }
    }

    /// Refuses the first field that nobody has taken.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        let left = self.map.iter().find(|(_, value)| !value.is_null());
        match left {
            None => Ok(()),
            Some((name, _)) => Err(self.refuse(name, "is not supported here")),
        }
    }
}
