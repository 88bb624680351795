//! Class that a Python program takes slots from, and writes groups with.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use pyo3::{
    exceptions::PyRuntimeError,
    prelude::*,
    types::{PyDict, PyList},
};
use tokio_util::sync::CancellationToken;
use vintage_control::{Name, PolicyVersion};
use vintage_flow::{config_file, open_store, roles::Program};
use vintage_given::{Completion, Desk, Slot, Stage, Versions};
use vintage_local::{Staging, Texts};
use vintage_store::{MODEL_FILE, Weights, label};
use vintage_trajectory::GroupId;

use crate::{
    array::incoming,
    fault::{Error, raised, usage},
    production::{self, Ended, News, Opening},
    stream,
};

/// Interval at which a wait looks whether ^C was pressed.
const TICK: Duration = Duration::from_millis(50);

/// Producer of a run, whose completions the caller samples.
#[pyclass(module = "vintage._native", frozen)]
pub(crate) struct Writer {
    /// Process that opened it.
    process: u32,
    run: PathBuf,
    desk: Desk,
    stop: CancellationToken,
    ended: Ended,
    news: Mutex<Receiver<News>>,
    /// Closed once the producer has ended.
    over: Mutex<Receiver<()>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    staging: OnceLock<Mutex<Staging>>,
}

#[pymethods]
impl Writer {
    #[new]
    #[pyo3(signature = (run, *, name, config, settings, accept, scores))]
    fn new(
        run: PathBuf,
        name: &str,
        config: Option<PathBuf>,
        settings: Vec<String>,
        accept: Vec<String>,
        scores: bool,
    ) -> PyResult<Self> {
        let name: Name = name
            .parse()
            .map_err(|error| usage(format!("name={name:?}: {error}")))?;
        let (desk, stop, ended) = (Desk::default(), CancellationToken::new(), Ended::default());
        let (news, heard) = channel();
        let (running, over) = channel();
        let opening = Opening {
            out: run.clone(),
            config,
            settings,
            accept,
            program: Program {
                name,
                desk: desk.clone(),
                scores,
            },
        };
        let started =
            production::start(opening, (news, running), stop.clone(), Ended::clone(&ended));
        let thread = started
            .map_err(|error| Error::new_err(format!("starting the writer's threads: {error}")))?;
        Ok(Self {
            process: std::process::id(),
            run,
            desk,
            stop,
            ended,
            news: Mutex::new(heard),
            over: Mutex::new(over),
            thread: Mutex::new(Some(thread)),
            staging: OnceLock::new(),
        })
    }

    /// Waits until the producer has joined its run.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        self.here()?;
        loop {
            match py.detach(|| self.desk.joined(TICK)) {
                Stage::Joining => py.check_signals()?,
                Stage::Ended => {
                    self.wait(py)?;
                    return self.failure().map_or(Ok(()), Err);
                }
                Stage::Waiting | Stage::Slot(_) => return Ok(()),
            }
        }
    }

    /// Takes a slot, and waits for one for at most `seconds`. Returns the slot, `False` if none came
    /// in time, `None` after the last.
    #[pyo3(signature = (seconds))]
    fn take<'py>(&self, py: Python<'py>, seconds: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        self.here()?;
        let longest = match seconds {
            None => Duration::MAX,
            Some(seconds) => Duration::try_from_secs_f64(seconds)
                .map_err(|error| usage(format!("timeout={seconds}: {error}")))?,
        };
        let mut waited = Duration::ZERO;
        loop {
            let now = TICK.min(longest.saturating_sub(waited));
            match py.detach(|| self.desk.take(now)) {
                Stage::Slot(slot) => return Ok(slot_to_python(py, &slot)?.into_any()),
                Stage::Ended => {
                    // The reason is known once the producer has ended.
                    self.wait(py)?;
                    return match self.failure() {
                        Some(error) => Err(error),
                        None => Ok(py.None().into_bound(py)),
                    };
                }
                Stage::Joining | Stage::Waiting => {
                    py.check_signals()?;
                    waited = waited.saturating_add(now);
                    if waited >= longest {
                        return Ok(false.into_pyobject(py)?.to_owned().into_any());
                    }
                }
            }
        }
    }

    /// Answers the slot of a group; false if it is no longer wanted.
    fn answer(&self, py: Python<'_>, group: &str, rows: Vec<Row<'_>>) -> PyResult<bool> {
        self.here()?;
        let rows = rows.into_iter().enumerate();
        let rows: Vec<_> = rows
            .map(|(row, given)| given.completion(row))
            .collect::<PyResult<_>>()?;
        let group = id_of(group)?;
        py.detach(|| self.desk.answer(group, rows))
            .map_err(|error| usage(error.to_string()))
    }

    /// Gives up the slot of a group; false if it is no longer wanted.
    fn give_up(&self, group: &str, detail: String) -> PyResult<bool> {
        self.here()?;
        self.desk
            .give_up(id_of(group)?, detail)
            .map_err(|error| usage(error.to_string()))
    }

    /// Waits for the next thing that happened to a written group, or to the producer; `None` once
    /// the producer has ended.
    fn news<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.here()?;
        let news = py.detach(|| {
            let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
            news.recv().ok()
        });
        let dict = PyDict::new(py);
        match news {
            None => return Ok(None),
            Some(News::Published {
                group,
                partition,
                offset,
                seq,
            }) => {
                dict.set_item("group", group)?;
                dict.set_item("place", (partition, offset, seq))?;
            }
            Some(News::Failed { group, detail }) => {
                dict.set_item("group", group)?;
                dict.set_item("failed", detail)?;
            }
            Some(News::Warning(text)) => dict.set_item("warning", text)?,
        }
        Ok(Some(dict))
    }

    /// Raises the error that the producer ended with, if it did.
    fn check(&self) -> PyResult<()> {
        self.failure().map_or(Ok(()), Err)
    }

    /// Stops: slots that were not written are given back, what was written is published.
    fn stop(&self) -> PyResult<()> {
        self.here()?;
        self.stop.cancel();
        self.desk.end();
        Ok(())
    }

    /// Waits until the producer has ended.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        self.here()?;
        let over = || {
            let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
            over.recv_timeout(TICK)
        };
        while py.detach(over) == Err(RecvTimeoutError::Timeout) {
            py.check_signals()?;
        }
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let joined = py.detach(|| thread.join());
            joined.map_err(|_| Error::new_err("the writer's thread panicked"))?;
        }
        Ok(())
    }

    /// Returns the totals of the producer, once it has ended without an error.
    fn summary<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(Ok(summary)) = self.ended.get() else {
            return Ok(None);
        };
        let dict = PyDict::new(py);
        dict.set_item("producer", &summary.producer)?;
        dict.set_item("groups", summary.groups)?;
        dict.set_item("rollouts", summary.rows)?;
        dict.set_item("tokens", summary.tokens)?;
        let failed: BTreeMap<&str, u64> = summary.failed.clone();
        dict.set_item("failed", failed)?;
        Ok(Some(dict))
    }

    /// Returns the folder of a version's model, which is written from the run's store, verified.
    fn weights(&self, py: Python<'_>, version: u64) -> PyResult<String> {
        self.here()?;
        py.detach(|| self.staged(PolicyVersion(version)))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // In a forked process the threads are not there, and nothing may be told to the parent's.
        if std::process::id() == self.process {
            self.stop.cancel();
            self.desk.end();
        }
    }
}

impl Writer {
    fn here(&self) -> PyResult<()> {
        if std::process::id() == self.process {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(
            "this writer was opened in the process that this one was forked from, and its threads \
             are there: open a writer in each process that samples",
        ))
    }

    /// Returns the error that the producer ended with. A stop ends it without one.
    fn failure(&self) -> Option<PyErr> {
        match self.ended.get()? {
            Ok(_) | Err(vintage_flow::Error::Interrupted) => None,
            Err(error) => Some(raised(error)),
        }
    }

    fn staged(&self, version: PolicyVersion) -> PyResult<String> {
        let failed = |error: String| Error::new_err(format!("version {version}: {error}"));
        let config =
            vintage_config::read(&config_file(&self.run)).map_err(|error| raised(&error.into()))?;
        let policy = config.learner.policy;
        let store = open_store(&self.run).map_err(|error| raised(&error))?;
        let weights = Weights::new(store, policy.clone());
        let runtime = stream::runtime()?;
        runtime.block_on(async {
            let manifest = weights.manifest(version).await;
            let manifest = manifest.map_err(|error| failed(error.to_string()))?;
            let manifest = manifest.ok_or_else(|| {
                usage(format!(
                    "version {version} is not in the store: it is not published yet, or was pruned"
                ))
            })?;
            let name = label(&policy, version, manifest.weights_sha256);
            // Every slot of a version may ask for it, and the weights are read once.
            if let Some(folder) = self.staging(&policy).find(&name) {
                return Ok(folder);
            }
            let texts = Texts::open(&weights, &policy).await;
            let mut files = texts
                .map_err(|error| failed(error.to_string()))?
                .files()
                .to_vec();
            let bytes = weights.fetch(version).await;
            files.push((
                MODEL_FILE,
                bytes.map_err(|error| failed(error.to_string()))?,
            ));
            let written = self.staging(&policy).write(&name, &files);
            written.map_err(|error| failed(format!("writing its folder: {error}")))
        })
    }

    /// Folder of versions, created when it is first asked for.
    fn staging(&self, policy: &Name) -> MutexGuard<'_, Staging> {
        let staging = self.staging.get_or_init(|| {
            let prefix = format!("{policy}-");
            Mutex::new(Staging::new(self.run.join(SERVED), None, prefix, KEPT))
        });
        staging.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Number of versions that stay in that folder: a program may still read the one before.
const KEPT: usize = 3;

/// Folder of versions for programs, inside the run's folder: that of the inference servers.
const SERVED: &str = "served";

/// Row as `vintage/writer.py` hands it over.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Row<'py> {
    tokens: Bound<'py, PyAny>,
    logprobs: Bound<'py, PyAny>,
    version: Option<u64>,
    versions: Option<Bound<'py, PyAny>>,
    reward: Option<f32>,
    parts: Option<BTreeMap<String, f32>>,
    text: Option<String>,
    finish_reason: Option<String>,
    mask: Option<Bound<'py, PyAny>>,
    seconds: f32,
}

impl Row<'_> {
    fn completion(self, row: usize) -> PyResult<Completion> {
        let named = |field: &str| format!("{field}[{row}]");
        let (_, tokens) = incoming::<i64>(&self.tokens, || named("completions"))?;
        let (_, logprobs) = incoming::<f32>(&self.logprobs, || named("logprobs"))?;
        let each = self
            .versions
            .map(|each| incoming::<i64>(&each, || named("versions")));
        let mask = self
            .mask
            .map(|mask| incoming::<u8>(&mask, || named("loss_masks")));
        let mask = mask.transpose()?;
        Ok(Completion {
            tokens,
            logprobs,
            versions: match (each.transpose()?, self.version) {
                (Some((_, each)), _) => Some(Versions::Each(each)),
                (None, one) => one.map(Versions::One),
            },
            reward: self.reward,
            parts: self.parts,
            text: self.text,
            finish_reason: self.finish_reason,
            mask: mask.map(|(_, mask)| mask.iter().map(|&value| value != 0).collect()),
            seconds: self.seconds,
        })
    }
}

fn slot_to_python<'py>(py: Python<'py>, slot: &Slot) -> PyResult<Bound<'py, PyDict>> {
    let prompt = &slot.prompt;
    let dict = PyDict::new(py);
    dict.set_item("group", slot.group.to_string())?;
    dict.set_item("prompt_id", &prompt.id)?;
    dict.set_item("prompt", &prompt.text)?;
    dict.set_item("chat", prompt.chat.as_deref())?;
    dict.set_item("prompt_tokens", PyList::new(py, &slot.prompt_tokens)?)?;
    dict.set_item("answer", prompt.answer.as_deref())?;
    dict.set_item("metadata", prompt.metadata.clone())?;
    dict.set_item("seeds", PyList::new(py, &slot.seeds)?)?;
    dict.set_item("version", slot.version.0)?;
    dict.set_item("exact", slot.exact)?;
    dict.set_item("max_tokens", slot.sampling.max_tokens)?;
    dict.set_item("temperature", slot.sampling.temperature)?;
    dict.set_item("top_p", slot.sampling.top_p)?;
    dict.set_item("top_k", slot.sampling.top_k)?;
    Ok(dict)
}

fn id_of(group: &str) -> PyResult<GroupId> {
    group
        .parse()
        .map_err(|error| usage(format!("group={group:?}: {error}")))
}
