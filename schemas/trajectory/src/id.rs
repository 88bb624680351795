use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Id of one attempt at a prompt: 16 bytes, new for every attempt. Also the key of the message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupId(pub [u8; 16]);

/// Id of one sampled completion, derived from its group's id and its index in the group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrajectoryId(pub [u8; 16]);

impl GroupId {
    /// Returns the id of the group's `sample_index`-th completion: the first 16 bytes of
    /// SHA-256(`group_id` ‖ `sample_index` as two bytes, little-endian).
    pub fn trajectory(&self, sample_index: u16) -> TrajectoryId {
        let digest = Sha256::new()
            .chain_update(self.0)
            .chain_update(sample_index.to_le_bytes())
            .finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        TrajectoryId(id)
    }
}

/// Error for a text that is not 32 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("not an id of 32 hexadecimal digits: {0:?}")]
pub struct BadId(String);

macro_rules! hexadecimal {
    ($($name:ty),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let mut id = [0; 16];
                hex::decode_to_slice(text, &mut id).map_err(|_| BadId(text.to_owned()))?;
                Ok(Self(id))
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    )+};
}
hexadecimal!(GroupId, TrajectoryId);
