use std::net::SocketAddr;

use vintage_control::Fault;

/// Failure of the server before it answers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Address that cannot be listened at.
    #[error(
        "cannot listen at {address}: {source}; name a free address of this machine with --listen"
    )]
    Listen {
        /// Address as it was given.
        address: SocketAddr,
        /// Error of the operating system.
        source: std::io::Error,
    },
}

impl Error {
    /// Returns the party at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Listen { .. } => Fault::User,
        }
    }
}
