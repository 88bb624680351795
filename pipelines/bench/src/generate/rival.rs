//! Sampling by transformers in a Python child process.

use std::{
    io::{BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, because};

/// Script that samples with transformers on request.
const SCRIPT: &str = include_str!("rival.py");

/// Versions of what samples in the Python process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Version of PyTorch.
    pub torch: String,
    /// Version of transformers.
    pub transformers: String,
    /// Version of Python.
    pub python: String,
    /// Attention that transformers chose, such as `sdpa`.
    pub attention: String,
}

/// Request to sample: prompts of one length, and the length of every completion.
#[derive(Serialize)]
struct Asked<'a> {
    prompts: &'a [Vec<u32>],
    completion: usize,
}

/// Seconds that sampling took.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Seconds {
    /// Wall-clock time.
    pub(super) seconds: f64,
    /// CPU time of all threads.
    pub(super) cpu_seconds: f64,
}

/// Python process that holds the model and samples on request.
pub(super) struct Rival {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    versions: Versions,
}

impl Rival {
    /// Starts the process and has it load the model in `folder`.
    pub(super) fn start(python: &Path, folder: &Path, threads: usize) -> Result<Self> {
        let name = python.display();
        let mut child = Command::new(python)
            .args(["-c", SCRIPT])
            .arg(folder)
            .arg(threads.to_string())
            .env("OMP_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(because(format!("cannot start {name}")))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (requests, answers) =
            pipes.ok_or_else(|| Error::Failed(format!("{name} has no pipes")))?;
        let mut answers = BufReader::new(answers);
        let versions = read(&mut answers).map_err(because(format!(
            "{name} cannot sample: install torch and transformers there, or give another --python"
        )))?;
        Ok(Self {
            child,
            requests,
            answers,
            versions,
        })
    }

    /// Returns the versions of the programs.
    pub(super) fn versions(&self) -> Versions {
        self.versions.clone()
    }

    /// Samples `completion` tokens after each prompt; returns the seconds it took.
    pub(super) fn time(&mut self, prompts: &[Vec<u32>], completion: usize) -> Result<Seconds> {
        let asked = Asked {
            prompts,
            completion,
        };
        let mut line = serde_json::to_string(&asked).map_err(because("cannot write a request"))?;
        line.push('\n');
        self.requests
            .write_all(line.as_bytes())
            .and_then(|()| self.requests.flush())
            .map_err(because("cannot ask transformers"))?;
        read(&mut self.answers).map_err(because("transformers broke off (out of memory?)"))
    }
}

fn read<T: serde::de::DeserializeOwned>(answers: &mut impl std::io::BufRead) -> Result<T> {
    let mut line = String::new();
    answers
        .read_line(&mut line)
        .map_err(because("cannot read its answer"))?;
    serde_json::from_str(&line).map_err(because(format!("it answered {:?}", line.trim())))
}

impl Drop for Rival {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            tracing::debug!(%error, "python could not be ended");
        }
    }
}
