//! A real S3 server for tests.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::served::Served;

/// Server moto on loopback, as `tests/python/s3_server.py` runs it; stopped when dropped.
pub struct S3 {
    _server: Served,
    port: u16,
}

impl S3 {
    /// Starts a server that has one empty bucket.
    pub fn up(bucket: &str) -> Result<Self> {
        let server = Served::start("s3_server.py", [bucket], "")?;
        let said = server.said();
        let port = said.parse();
        let port = port.with_context(|| format!("the S3 server said {said:?}, not its port"))?;
        Ok(Self {
            _server: server,
            port,
        })
    }

    /// Port on which the server listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the `store_options` that reach this server.
    pub fn options(&self) -> BTreeMap<String, String> {
        options(self.port)
    }
}

/// Returns the `store_options` of an S3 server on a port of loopback.
pub fn options(port: u16) -> BTreeMap<String, String> {
    options_at("127.0.0.1", port)
}

/// Returns the `store_options` of an S3 server on a port of an address.
pub fn options_at(address: &str, port: u16) -> BTreeMap<String, String> {
    let endpoint = format!("http://{address}:{port}");
    [
        ("endpoint", endpoint.as_str()),
        ("allow_http", "true"),
        ("region", "us-east-1"),
        ("aws_access_key_id", "tests"),
        ("aws_secret_access_key", "tests"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}
