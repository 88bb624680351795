//! Troubles of a store that pass by themselves.

use std::{error::Error as StdError, io};

use crate::error::{Error, Trouble, io_error};

impl Error {
    /// Returns true if the trouble passes without anybody changing a setting or a right: the server
    /// is away or overloaded, the disk is full, a disk's server does not answer. A refusal, as for
    /// want of a permission, does not pass, and neither does an object that is not there.
    pub fn passes(&self) -> bool {
        match self.trouble() {
            Some(Trouble::NoRoom | Trouble::TooManyFiles) => true,
            Some(Trouble::NoPermission | Trouble::ReadOnly) | None => false,
            Some(Trouble::Network) => match self {
                Self::Backend { source, .. } => !is_answer(source.as_ref()),
                _ => false,
            },
            Some(Trouble::Io) => match self {
                Self::Backend { source, .. } => io_error(source.as_ref()).is_some_and(|error| {
                    !matches!(
                        error.kind(),
                        io::ErrorKind::NotFound
                            | io::ErrorKind::InvalidInput
                            | io::ErrorKind::InvalidFilename
                            | io::ErrorKind::IsADirectory
                            | io::ErrorKind::UnexpectedEof
                    )
                }),
                _ => false,
            },
        }
    }
}

/// Returns true for what a server that works says about an object.
fn is_answer(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        error.downcast_ref::<object_store::Error>(),
        Some(
            object_store::Error::NotFound { .. }
                | object_store::Error::InvalidPath { .. }
                | object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. }
                | object_store::Error::NotModified { .. }
                | object_store::Error::NotImplemented { .. }
        )
    )
}
