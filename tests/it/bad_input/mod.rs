//! Bad input of every kind: a clear error that says what to do, the right exit code, in bounded
//! time, and nothing half-written.

mod archive;
mod broker;
mod disk;
mod folder;
mod limits;
mod model;
mod prompts;
mod reward;
mod settings;

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use vintage_tests::{Ended, Running};

/// Exit code of a run that failed.
const FAILED: i32 = 1;
/// Exit code of wrong usage or configuration.
const USAGE: i32 = 2;
/// Exit code of a check with a negative verdict.
const NEGATIVE: i32 = 3;

/// Seconds after which a command counts as hanging, on a busy machine.
const BOUND: &str = "60";

/// Returns a command that is killed if it takes longer than [`BOUND`].
fn bounded(command: &Command) -> Command {
    let mut bounded = Command::new("timeout");
    bounded.args(["--signal=KILL", BOUND]);
    bounded.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    bounded
}

/// Starts a command that is to be refused: [`Refusal::because`] waits for it.
fn start(command: &Command) -> Result<Refusal> {
    Ok(Refusal {
        command: format!("{command:?}"),
        running: Running::start(bounded(command))?,
    })
}

/// Runs a command that must end with `code` and an error that has all of `words`.
fn refused(command: &Command, code: i32, words: &[&str]) -> Result<Ended> {
    start(command)?.because(code, words)
}

/// Running command that is to be refused.
struct Refusal {
    command: String,
    running: Running,
}

impl Refusal {
    fn because(self, code: i32, words: &[&str]) -> Result<Ended> {
        let ended = self.running.wait()?;
        let at = || format!("{}\n{}\n{}", self.command, ended.status, ended.stderr);
        let error = error_of(&ended.stderr).with_context(at)?;
        ensure!(
            ended.status.code() == Some(code),
            "exit code {code} was due: {}",
            at()
        );
        for word in words {
            ensure!(
                error.contains(word),
                "{word:?} is not in the error: {}",
                at()
            );
        }
        ensure!(
            ended.stdout.is_empty(),
            "it printed {:?}: {}",
            ended.stdout,
            at()
        );
        Ok(ended)
    }
}

/// Returns the end of standard error: the `error:` line and everything after it.
fn error_of(stderr: &str) -> Result<&str> {
    ensure!(!stderr.contains("panicked"), "a panic is no error message");
    let start = if stderr.starts_with("error: ") {
        Some(0)
    } else {
        None
    };
    let start = stderr
        .rfind("\nerror: ")
        .map(|newline| newline + 1)
        .or(start);
    Ok(&stderr[start.context("no line starts with `error: `")?..])
}

/// Returns every file below `folder` with its bytes, by relative path.
fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    fn walk(at: &Path, name: &str, found: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
        for entry in at.read_dir().with_context(|| at.display().to_string())? {
            let entry = entry?;
            let name = format!("{name}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                walk(&entry.path(), &format!("{name}/"), found)?;
            } else {
                found.insert(name, std::fs::read(entry.path())?);
            }
        }
        Ok(())
    }
    let mut found = BTreeMap::new();
    walk(folder, "", &mut found)?;
    Ok(found)
}

/// Checks that every file in a run's folder is whole, and that there are no other files.
fn nothing_half_written(out: &Path) -> Result<()> {
    if !out.exists() {
        return Ok(());
    }
    for (name, bytes) in files(out)? {
        let file = name.rsplit('/').next().unwrap_or(&name);
        let check = match file.rsplit_once('.').map_or("", |(_, extension)| extension) {
            "json" => serde_json::from_slice::<Value>(&bytes)
                .map(drop)
                .map_err(Into::into),
            "jsonl" => every_line_is_json(&bytes),
            "parquet" => has(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1")),
            "safetensors" => safetensors_end(&bytes).and_then(|end| has(end == bytes.len())),
            "toml" => has(file == "config.toml" && bytes.ends_with(b"\n")),
            "acks" => has(bytes.is_empty() || bytes.ends_with(b"\n")),
            "html" => has(bytes.ends_with(b"</html>\n")),
            _ => has(file.starts_with('.') && file.ends_with("lock")),
        };
        check.with_context(|| format!("{name} of {} bytes is half-written", bytes.len()))?;
    }
    Ok(())
}

fn has(all: bool) -> Result<()> {
    if all {
        Ok(())
    } else {
        bail!("something is missing or should not be there")
    }
}

fn every_line_is_json(bytes: &[u8]) -> Result<()> {
    has(bytes.ends_with(b"\n"))?;
    for line in bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        serde_json::from_slice::<Value>(line)?;
    }
    Ok(())
}

/// Parses the header of a safetensors file: tensors by name with shape and offsets, and the
/// position at which the values begin.
fn safetensors_header(bytes: &[u8]) -> Result<(serde_json::Map<String, Value>, usize)> {
    let (length, rest) = bytes.split_first_chunk::<8>().context("no header")?;
    let length = usize::try_from(u64::from_le_bytes(*length))?;
    let header = serde_json::from_slice(rest.get(..length).context("a short header")?)?;
    Ok((header, 8 + length))
}

/// Returns the length that a safetensors file should have by its own header.
fn safetensors_end(bytes: &[u8]) -> Result<usize> {
    let (header, start) = safetensors_header(bytes)?;
    let ends = header
        .values()
        .filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    Ok(start + ends.max().unwrap_or(0) as usize)
}
