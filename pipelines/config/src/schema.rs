//! Schema of a configuration struct: its settings and their types, derived from the struct's
//! `Deserialize` alone, so there is no second list to keep in step.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor},
};

use vintage_settings::TEXT_OR_LIST;

use crate::key::Key;

/// Type of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Bool,
    /// Whole number.
    Integer,
    /// Floating-point number.
    Float,
    /// Text.
    Text,
    /// Text from a fixed list.
    OneOf(&'static [&'static str]),
    /// List of values.
    List,
    /// Text, or a list of texts.
    TextOrList,
    /// Table with keys chosen by the user and texts as values.
    Map,
    /// Struct with these fields.
    Section(&'static [&'static str]),
}

impl Kind {
    /// Returns a description of the values that the setting takes, for error messages.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Integer => "a whole number".to_owned(),
            Self::Float => "a number".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::OneOf(names) => format!("one of {}", names.join(", ")),
            Self::List => "a list, for example [\"python3\", \"score.py\"]".to_owned(),
            Self::TextOrList => "a text, or a list of texts".to_owned(),
            Self::Map => "a table of texts".to_owned(),
            Self::Section(_) => "a section".to_owned(),
        }
    }
}

/// Setting or section of a configuration struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// Type of the setting.
    pub(crate) kind: Kind,
    /// True if the setting may be unset.
    pub(crate) optional: bool,
}

/// All settings of a configuration struct.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    fields: BTreeMap<Key, Field>,
    /// Names of settings without sections, in the order of declaration; a section's own settings
    /// come before those of its subsections.
    settings: Vec<Key>,
}

impl Schema {
    /// Determines the schema of `T`.
    pub(crate) fn of<T: DeserializeOwned>() -> Self {
        let mut schema = Self {
            fields: BTreeMap::new(),
            settings: Vec::new(),
        };
        schema.visit::<T>(&Key::root());
        schema
    }

    /// Returns the setting or section of this name; `None` if there is none.
    pub(crate) fn field(&self, key: &Key) -> Option<&Field> {
        self.fields.get(key)
    }

    /// Returns the names of all settings, in order of declaration.
    pub(crate) fn settings(&self) -> &[Key] {
        &self.settings
    }

    fn visit<T: DeserializeOwned>(&mut self, section: &Key) {
        let Some(Field {
            kind: Kind::Section(names),
            ..
        }) = probe::<T>(section)
        else {
            return;
        };
        let mut sections = Vec::new();
        for name in names {
            let key = section.child(name);
            let Some(field) = probe::<T>(&key) else {
                continue;
            };
            if matches!(field.kind, Kind::Section(_)) {
                sections.push(key.clone());
            } else {
                self.settings.push(key.clone());
            }
            self.fields.insert(key, field);
        }
        for key in sections {
            self.visit::<T>(&key);
        }
    }
}

/// Determines the type that `T` expects at `key`, by a deserialization that stops there.
fn probe<T: DeserializeOwned>(key: &Key) -> Option<Field> {
    let mut found = None;
    let probe = Probe {
        path: key.parts(),
        optional: false,
        found: &mut found,
    };
    // The probe ends every deserialization with an error once it has the type.
    let _ = T::deserialize(probe);
    found
}

struct Probe<'a> {
    path: &'a [String],
    optional: bool,
    found: &'a mut Option<Field>,
}

impl Probe<'_> {
    fn stop<V>(self, kind: Kind) -> Result<V, Stop> {
        if self.path.is_empty() {
            *self.found = Some(Field {
                kind,
                optional: self.optional,
            });
        }
        Err(Stop)
    }
}

macro_rules! leaves {
    ($($method:ident => $kind:expr;)+) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            self.stop($kind)
        }
    )+};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    leaves! {
        deserialize_bool => Kind::Bool;
        deserialize_i8 => Kind::Integer;
        deserialize_i16 => Kind::Integer;
        deserialize_i32 => Kind::Integer;
        deserialize_i64 => Kind::Integer;
        deserialize_u8 => Kind::Integer;
        deserialize_u16 => Kind::Integer;
        deserialize_u32 => Kind::Integer;
        deserialize_u64 => Kind::Integer;
        deserialize_f32 => Kind::Float;
        deserialize_f64 => Kind::Float;
        deserialize_char => Kind::Text;
        deserialize_str => Kind::Text;
        deserialize_string => Kind::Text;
        deserialize_bytes => Kind::Text;
        deserialize_byte_buf => Kind::Text;
        deserialize_identifier => Kind::Text;
        deserialize_any => Kind::Text;
        deserialize_ignored_any => Kind::Text;
        deserialize_unit => Kind::Text;
        deserialize_seq => Kind::List;
        deserialize_map => Kind::Map;
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.optional = true;
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if name == TEXT_OR_LIST {
            return self.stop(Kind::TextOrList);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: V,
    ) -> Result<V::Value, Stop> {
        self.stop(Kind::Text)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Stop> {
        self.stop(Kind::List)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        _: V,
    ) -> Result<V::Value, Stop> {
        self.stop(Kind::List)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Stop> {
        self.stop(Kind::OneOf(variants))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        match self.path {
            [] => self.stop(Kind::Section(fields)),
            [first, ..] if !fields.contains(&first.as_str()) => Err(Stop),
            _ => visitor.visit_map(self),
        }
    }
}

/// Presents a struct with only the field that the path names.
impl<'de> MapAccess<'de> for Probe<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Stop> {
        let Some(first) = self.path.first() else {
            return Ok(None);
        };
        seed.deserialize(first.as_str().into_deserializer())
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        let path = self.path.get(1..).unwrap_or_default();
        seed.deserialize(Probe {
            path,
            optional: false,
            found: &mut *self.found,
        })
    }
}

/// Error that ends the probe's deserialization once the type is known.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("probed")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}
