//! A real S3 server for a test.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

use crate::python;

/// moto on loopback, as `tests/python/s3_server.py` serves it; gone when dropped.
pub struct S3 {
    server: Child,
    port: u16,
}

impl S3 {
    /// Starts one that has an empty bucket.
    pub fn up(bucket: &str) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/s3_server.py");
        let mut command = Command::new(python());
        command.arg(&script).arg(bucket);
        // Its standard input closes with this process, however that ends, and so ends the server.
        let mut server = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", script.display()))?;
        let stdout = server.stdout.take().context("standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line.trim().parse();
        let port = port.with_context(|| format!("the S3 server said {line:?}, not its port"))?;
        Ok(Self { server, port })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `store_options` that reach it.
    pub fn options(&self) -> BTreeMap<String, String> {
        options(self.port)
    }
}

/// `store_options` of an S3 server on a port of loopback.
pub fn options(port: u16) -> BTreeMap<String, String> {
    let endpoint = format!("http://127.0.0.1:{port}");
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

impl Drop for S3 {
    fn drop(&mut self) {
        let _gone = self.server.kill();
        let _reaped = self.server.wait();
    }
}
