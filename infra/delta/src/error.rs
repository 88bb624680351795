use vintage_control::{Fault, Sha256};

/// Failure to make or to apply a delta.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Delta that is cut off, or whose parts contradict each other.
    #[error("the delta is damaged: {reason}; delete the version, or publish it again in full")]
    Damaged {
        /// Description of the damage.
        reason: String,
    },
    /// Delta between other versions than the ones asked for.
    #[error(
        "the delta leads from weights {base} to {weights}, and one from {asked_base} to \
         {asked_weights} is needed: it belongs to another version or policy"
    )]
    OtherEnds {
        /// Digest of the weights that the delta starts from.
        base: Sha256,
        /// Digest of the weights that it leads to.
        weights: Sha256,
        /// Digest of the weights at hand.
        asked_base: Sha256,
        /// Digest of the weights that are wanted.
        asked_weights: Sha256,
    },
    /// Base whose tensors are not those of the delta.
    #[error("the base has other tensors than the delta: {reason}")]
    OtherLayout {
        /// First difference.
        reason: String,
    },
    /// Tensor that did not come out as it was.
    #[error(
        "tensor {name} has another checksum after the delta than it had when it was published: \
         the base or the delta is damaged"
    )]
    Tensor {
        /// Name of the tensor.
        name: String,
    },
    /// Adapters that cannot be merged into the base.
    #[error("the adapters cannot be merged: {reason}")]
    Adapters {
        /// Description of the fault.
        reason: String,
    },
    /// Weights that are no safetensors file.
    #[error("the weights are no safetensors file: {reason}")]
    Weights {
        /// Description of the damage.
        reason: String,
    },
    /// Failure of the compressor.
    #[error("compressing a delta: {reason}")]
    Compress {
        /// Message of the compressor.
        reason: String,
    },
}

impl Error {
    /// Returns the party at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Compress { .. } => Fault::Internal,
            _ => Fault::External,
        }
    }

    pub(crate) fn adapters(reason: String) -> Self {
        Self::Adapters { reason }
    }

    pub(crate) fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged {
            reason: reason.into(),
        }
    }
}

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
