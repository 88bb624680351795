use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// Reader that digests the bytes which pass through it.
pub(crate) struct Hashed<R> {
    inner: R,
    digest: Sha256,
}

impl<R: Read> Hashed<R> {
    pub(crate) fn new(inner: R) -> Self {
        let digest = Sha256::new();
        Self { inner, digest }
    }

    /// Reads what is left, and returns the SHA-256 of all bytes.
    pub(crate) fn finish(mut self) -> io::Result<vintage_control::Sha256> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(vintage_control::Sha256(self.digest.finalize().into()))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}
