//! Another program's way to do the same, in a Python child process that works on request.

use std::{
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result, because},
    median::median,
    used::cpu_seconds,
};

/// Versions of what works in the Python process.
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

/// Time of one round.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Took {
    /// Wall-clock time.
    pub(crate) seconds: f64,
    /// CPU time of all threads.
    pub(crate) cpu_seconds: f64,
    /// Peak of the memory of its GPU in bytes, of another program that has one.
    #[serde(default)]
    pub(crate) peak_bytes: Option<u64>,
}

impl Took {
    /// Times a job of this process.
    pub(crate) fn of<T>(job: impl FnOnce() -> T) -> Result<(T, Self)> {
        let (begun, used) = (Instant::now(), cpu_seconds()?);
        let done = job();
        let taken = Self {
            seconds: begun.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds()? - used,
            peak_bytes: None,
        };
        Ok((done, taken))
    }
}

/// Times of the rounds of one program, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rounds {
    /// Median.
    pub seconds: f64,
    /// Smallest and largest.
    pub seconds_range: (f64, f64),
    /// CPU time of all threads, the median. This program's is counted in ticks of 10 ms.
    pub cpu_seconds: f64,
}

/// Seconds of another program divided by this one's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// Median of the rounds.
    pub ratio: f64,
    /// Smallest and largest of a round.
    pub ratio_range: (f64, f64),
    /// CPU seconds of the other program in all rounds, divided by this one's; it hardly depends on
    /// what else runs. `None` if the rounds took less than a tick.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ratio: Option<f64>,
}

impl Rounds {
    /// Summarises the seconds of at least one round.
    pub(crate) fn of(all: &[Took]) -> Self {
        let seconds: Vec<_> = all.iter().map(|round| round.seconds).collect();
        Self {
            seconds_range: range(&seconds),
            seconds: median(seconds),
            cpu_seconds: median(all.iter().map(|round| round.cpu_seconds)),
        }
    }
}

impl Ratio {
    /// Compares at least one round of each program, run in turns.
    pub(crate) fn of(ours: &[Took], theirs: &[Took]) -> Self {
        let pairs = ours.iter().zip(theirs);
        let ratios: Vec<_> = pairs
            .map(|(ours, theirs)| theirs.seconds / ours.seconds)
            .collect();
        let cpu = |all: &[Took]| all.iter().map(|round| round.cpu_seconds).sum::<f64>();
        Self {
            ratio_range: range(&ratios),
            ratio: median(ratios),
            cpu_ratio: (cpu(ours) > 0.0).then(|| cpu(theirs) / cpu(ours)),
        }
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, most)
}

/// Python process that has loaded a model and times a job on request.
pub(crate) struct Rival {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    versions: Versions,
}

impl Rival {
    /// Starts `script` with the model in `folder`, and `more` arguments after folder and threads.
    pub(crate) fn start(
        python: &Path,
        script: &str,
        folder: &Path,
        threads: usize,
        more: &[String],
    ) -> Result<Self> {
        let name = python.display();
        let mut child = Command::new(python)
            .args(["-c", script])
            .arg(folder)
            .arg(threads.to_string())
            .args(more)
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
            "{name} cannot take part: install torch (with CUDA, for a GPU) and transformers there, or give \
             another --python"
        )))?;
        Ok(Self {
            child,
            requests,
            answers,
            versions,
        })
    }

    /// Returns the versions of the programs.
    pub(crate) fn versions(&self) -> Versions {
        self.versions.clone()
    }

    /// Has the job done that `asked` describes; returns the time it took.
    pub(crate) fn time(&mut self, asked: &impl Serialize) -> Result<Took> {
        let mut line = serde_json::to_string(asked).map_err(because("cannot write a request"))?;
        line.push('\n');
        self.requests
            .write_all(line.as_bytes())
            .and_then(|()| self.requests.flush())
            .map_err(because("cannot ask the Python process"))?;
        read(&mut self.answers).map_err(because("the Python process broke off (out of memory?)"))
    }
}

fn read<T: DeserializeOwned>(answers: &mut impl BufRead) -> Result<T> {
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
