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
        Self::run(Self::script(script, args), secret)
    }

    /// Returns the command of a script of `tests/python`.
    pub fn script<A: AsRef<OsStr>>(script: &str, args: impl IntoIterator<Item = A>) -> Command {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let mut command = Command::new(python());
        command.arg(path.join(script)).args(args);
        command
    }

    /// Starts a command and gives it `secret` as the first line of its standard input.
    pub fn run(mut command: Command, secret: &str) -> Result<Self> {
        // The server's standard input closes with this process, however that ends, and the server
        // ends with it.
        let mut server = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let input = server.stdin.as_mut().context("standard input")?;
        writeln!(input, "{secret}")?;
        let output = server.stdout.take().context("standard output")?;
        let mut said = String::new();
        BufReader::new(output).read_line(&mut said)?;
        ensure!(!said.is_empty(), "{command:?} ended and said nothing");
        let said = said.trim().to_owned();
        Ok(Self { server, said })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.server.id()
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
