use thiserror::Error;
use vintage_control::Fault;

/// Reason for which an experiment was refused.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// Setting of an experiment out of its range.
    #[error("cannot run the experiment: `{name}` is {value}; it must be {range}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Refused value.
        value: f64,
        /// Range of allowed values, in words.
        range: &'static str,
    },
}

impl Error {
    /// Returns the party at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Setting { .. } => Fault::User,
        }
    }
}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Refuses a setting unless `holds`.
pub(crate) fn require(
    holds: bool,
    name: &'static str,
    value: f64,
    range: &'static str,
) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Error::Setting { name, value, range })
    }
}
