//! Value of staleness of an arm: one age for all groups, or a mix of them.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use vintage_control::Ages;

/// Staleness of every batch of a run. Its text is `64` for batches of one age, and `uniform-64` or `tail-64` for
/// those of ages up to 64; in JSON it is a number or that text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staleness {
    /// Age of all groups, or the bound of their ages, in updates.
    pub bound: u64,
    /// Ages of the groups of a batch.
    pub ages: Ages,
}

impl Staleness {
    /// Creates the staleness of batches whose groups are all of one age.
    pub fn same(bound: u64) -> Self {
        Self {
            bound,
            ages: Ages::Same,
        }
    }

    /// Returns true if batches have groups of several ages.
    pub fn is_mixed(self) -> bool {
        self.ages != Ages::Same
    }
}

impl fmt::Display for Staleness {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ages {
            Ages::Same => write!(out, "{}", self.bound),
            ages => write!(out, "{}-{}", ages.as_str(), self.bound),
        }
    }
}

impl FromStr for Staleness {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ages, bound) = match text.split_once('-') {
            None => (Some(Ages::Same), text),
            Some((name, bound)) => {
                let is_named = |ages: &Ages| *ages != Ages::Same && ages.as_str() == name;
                (Ages::ALL.into_iter().find(is_named), bound)
            }
        };
        match (ages, bound.parse()) {
            (Some(ages), Ok(bound)) => Ok(Self { bound, ages }),
            _ => Err(
                "give a number of updates, as 64, or ages up to it, as uniform-64 or tail-64"
                    .to_owned(),
            ),
        }
    }
}

impl Serialize for Staleness {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_mixed() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.bound)
        }
    }
}
