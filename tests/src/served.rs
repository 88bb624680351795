//! Servers of `tests/python` for tests.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::python;

/// Server process that prints its address as its first line and ends with its standard input;
/// killed when dropped.
pub struct Served {
    server: Child,
    said: String,
}

impl Served {
    /// Starts `script` and gives it `secret` as the first line of its standard input.
    pub fn start<A: AsRef<OsStr>>(
        script: &str,
        args: impl IntoIterator<Item = A>,
        secret: &str,
    ) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let mut command = Command::new(python());
        command.arg(path.join(script)).args(args);
        // The server's standard input closes with this process, however that ends, and the server
        // ends with it.
        let mut server = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {script}"))?;
        let input = server.stdin.as_mut().context("standard input")?;
        writeln!(input, "{secret}")?;
        let output = server.stdout.take().context("standard output")?;
        let mut said = String::new();
        BufReader::new(output).read_line(&mut said)?;
        ensure!(!said.is_empty(), "{script} ended and said nothing");
        let said = said.trim().to_owned();
        Ok(Self { server, said })
    }

    /// First line that the server printed: its port or address.
    pub fn said(&self) -> &str {
        &self.said
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _gone = self.server.kill();
        let _reaped = self.server.wait();
    }
}
