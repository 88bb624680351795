//! Class that a Python program waits with for updates, and commits them by.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use pyo3::{
    exceptions::{PyRuntimeError, PyUserWarning},
    prelude::*,
    types::PyDict,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vintage_control::{Name, UpdateResult};
use vintage_model::ParamSpec;

use crate::{
    array::outgoing,
    batch,
    commit::{Expected, Numbers, checked},
    engine::{Ask, Handed, News, State},
    fault::{Error, raised, usage},
    job::{self, Channels, Opening, Outcome},
};

/// Interval at which a wait looks whether ^C was pressed.
const TICK: Duration = Duration::from_millis(50);

/// Learner of a run, whose updates the caller computes.
#[pyclass(module = "vintage._native", frozen)]
pub(crate) struct Learner {
    /// Process that opened it.
    process: u32,
    /// Folder of the run.
    run: PathBuf,
    stop: CancellationToken,
    wanted: Arc<watch::Sender<bool>>,
    inner: Mutex<Inner>,
}

struct Inner {
    news: Receiver<News>,
    thread: Option<JoinHandle<()>>,
    /// Update that was handed out and is not committed.
    open: Option<Open>,
    /// Update that came before the news that the one before it is recorded: after a crash, plans
    /// follow one another without being asked for.
    early: Option<Box<Handed>>,
    /// True once the learner has ended.
    ended: bool,
    /// Outcome of a learner that ended without an error.
    outcome: Option<Outcome>,
}

struct Open {
    update: u64,
    specs: Vec<ParamSpec>,
    steps: u64,
    n_valid: u64,
    asks: Sender<Ask>,
}

/// Parameters, both moments and the number of steps that they hold.
type StateArrays<'py> = (
    Bound<'py, PyDict>,
    Bound<'py, PyDict>,
    Bound<'py, PyDict>,
    u64,
);

#[pymethods]
impl Learner {
    #[new]
    #[pyo3(signature = (run, *, name, follow_plans, config, settings, libraries, device))]
    #[expect(
        clippy::too_many_arguments,
        reason = "named ones, of a class whose only caller is vintage/learner.py"
    )]
    fn new(
        py: Python<'_>,
        run: PathBuf,
        name: Option<String>,
        follow_plans: Option<String>,
        config: Option<PathBuf>,
        settings: Vec<String>,
        libraries: String,
        device: String,
    ) -> PyResult<Self> {
        let opening = Opening {
            out: run.clone(),
            name: parsed("name", name)?,
            follow_plans: parsed("follow_plans", follow_plans)?,
            config,
            settings,
            libraries,
            device,
        };
        let (news, heard) = channel();
        let (stop, wanted) = (
            CancellationToken::new(),
            Arc::new(watch::Sender::new(false)),
        );
        let channels = Channels {
            news,
            wanted: Arc::clone(&wanted),
            stop: stop.clone(),
        };
        let thread = job::start(opening, channels)
            .map_err(|error| Error::new_err(format!("starting the learner's threads: {error}")))?;
        let learner = Self {
            process: std::process::id(),
            run,
            stop,
            wanted,
            inner: Mutex::new(Inner {
                news: heard,
                thread: Some(thread),
                open: None,
                early: None,
                ended: false,
                outcome: None,
            }),
        };
        let mut inner = learner.inner()?;
        loop {
            match inner.wait(py)? {
                News::Ended(outcome) => {
                    inner.ended = true;
                    inner.outcome = Some((*outcome).map_err(|error| raised(&error))?);
                    break;
                }
                News::Opened => break,
                other => warn(py, &other)?,
            }
        }
        drop(inner);
        Ok(learner)
    }

    /// Waits for the next update; `None` after the last.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let mut inner = self.inner()?;
        if let Some(open) = &inner.open {
            return Err(usage(format!(
                "update {} is not committed: its plan is durable, so it must be, before the next \
                 one is planned",
                open.update
            )));
        }
        if let Some(handed) = inner.early.take() {
            return inner.hand_out(py, *handed).map(Some);
        }
        if inner.ended {
            return Ok(None);
        }
        self.wanted.send_replace(true);
        loop {
            match inner.wait(py)? {
                News::Update(handed) => {
                    return inner.hand_out(py, *handed).map(Some);
                }
                News::Ended(outcome) => {
                    inner.ended = true;
                    inner.outcome = Some((*outcome).map_err(|error| raised(&error))?);
                    return Ok(None);
                }
                other => warn(py, &other)?,
            }
        }
    }

    /// Returns parameters and moments as they are before the open update.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<StateArrays<'py>> {
        let mut inner = self.inner()?;
        let open = inner.open()?;
        let (reply, replied) = channel();
        let asked = open.asks.send(Ask::State(reply));
        let mut replied = replied;
        let state = py.detach(move || {
            let replied = &mut replied;
            asked.ok().and_then(|()| replied.recv().ok())
        });
        let State {
            parameters,
            optimizer,
        } = state.ok_or_else(|| Error::new_err("the learner has ended"))?;
        let [values, first, second] = [(); 3].map(|()| PyDict::new(py));
        for (name, array) in parameters {
            values.set_item(name, outgoing(py, &array)?)?;
        }
        for (name, moments) in optimizer.moments() {
            first.set_item(name, outgoing(py, &moments.first)?)?;
            second.set_item(name, outgoing(py, &moments.second)?)?;
        }
        Ok((values, first, second, optimizer.steps()))
    }

    /// Commits update number `update`; returns its result as JSON once it is recorded.
    fn commit(
        &self,
        py: Python<'_>,
        update: u64,
        parameters: &Bound<'_, PyDict>,
        first: &Bound<'_, PyDict>,
        second: &Bound<'_, PyDict>,
        numbers: Numbers,
    ) -> PyResult<String> {
        let mut inner = self.inner()?;
        let open = inner.open()?;
        if open.update != update {
            return Err(usage(format!(
                "update {update} is committed or past; the open one is {}",
                open.update
            )));
        }
        let expected = Expected {
            update,
            specs: &open.specs,
            steps: open.steps,
            n_valid: open.n_valid,
        };
        let committed = checked(&expected, parameters, first, second, &numbers)?;
        let sent = open.asks.send(Ask::Commit(Box::new(committed)));
        inner.open = None;
        sent.map_err(|_| Error::new_err("the learner has ended"))?;
        loop {
            match inner.wait(py)? {
                News::Done(result) if result.version.0 == update => return json(&result),
                News::Update(handed) => inner.early = Some(handed),
                News::Ended(outcome) => {
                    inner.ended = true;
                    return Err(match *outcome {
                        Ok(_) => Error::new_err("the learner ended before the update was recorded"),
                        Err(error) => raised(&error),
                    });
                }
                other => warn(py, &other)?,
            }
        }
    }

    /// Ends the learner; it writes a checkpoint unless an update is open.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.stop.cancel();
        let mut inner = self.inner()?;
        let mut abandoned = inner.open.take().is_some() | inner.early.take().is_some();
        while !inner.ended {
            match inner.wait(py)? {
                News::Update(_) => abandoned = true,
                News::Ended(outcome) => {
                    inner.ended = true;
                    match *outcome {
                        Ok(outcome) => inner.outcome = Some(outcome),
                        Err(vintage_flow::Error::Interrupted) => {}
                        Err(vintage_flow::Error::Learner(
                            vintage_learner::Error::NotComputed { .. },
                        )) if abandoned => {}
                        Err(error) => return Err(raised(&error)),
                    }
                }
                other => warn(py, &other)?,
            }
        }
        if let Some(thread) = inner.thread.take() {
            let joined = py.detach(|| thread.join());
            joined.map_err(|_| Error::new_err("the learner's thread panicked"))?;
        }
        Ok(())
    }

    /// Returns `config.json` of the run's model.
    fn model_config(&self, py: Python<'_>) -> PyResult<String> {
        drop(self.inner()?);
        py.detach(|| job::model_config(&self.run))
            .map_err(|error| raised(&error))
    }

    /// Returns the outcome as JSON once the learner has ended without an error.
    fn outcome(&self) -> PyResult<Option<String>> {
        let inner = self.inner()?;
        Ok(inner.outcome.as_ref().map(|outcome| {
            let mut summary = outcome.summary.clone();
            if let Some(fields) = summary.as_object_mut() {
                fields.insert("updates".to_owned(), outcome.updates.into());
                fields.insert("finished".to_owned(), outcome.finished.into());
            }
            summary.to_string()
        }))
    }
}

impl Drop for Learner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Learner {
    fn inner(&self) -> PyResult<MutexGuard<'_, Inner>> {
        if std::process::id() != self.process {
            return Err(PyRuntimeError::new_err(
                "this learner was opened in the process that this one was forked from, and its \
                 threads are there: use it there, and open none before a fork",
            ));
        }
        match self.inner.try_lock() {
            Ok(inner) => Ok(inner),
            Err(TryLockError::WouldBlock) => Err(PyRuntimeError::new_err(
                "another thread waits on this learner: use it from one thread at a time",
            )),
            Err(TryLockError::Poisoned(_)) => {
                Err(PyRuntimeError::new_err("this learner panicked before"))
            }
        }
    }
}

impl Inner {
    /// Waits for news without holding the interpreter's lock.
    fn wait(&mut self, py: Python<'_>) -> PyResult<News> {
        loop {
            let news = &mut self.news;
            match py.detach(move || news.recv_timeout(TICK)) {
                Ok(news) => return Ok(news),
                Err(RecvTimeoutError::Timeout) => py.check_signals()?,
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended = true;
                    return Err(Error::new_err("the learner's thread ended by itself"));
                }
            }
        }
    }

    fn hand_out<'py>(&mut self, py: Python<'py>, handed: Handed) -> PyResult<Bound<'py, PyDict>> {
        let dict = batch::to_python(py, &handed)?;
        let valid = handed.batches.iter().flat_map(|batch| &batch.valid);
        self.open = Some(Open {
            update: handed.plan.update().0,
            n_valid: valid.filter(|valid| **valid).count() as u64,
            specs: handed.specs,
            steps: handed.steps,
            asks: handed.asks,
        });
        Ok(dict)
    }

    fn open(&mut self) -> PyResult<&mut Open> {
        self.open
            .as_mut()
            .ok_or_else(|| usage("no update is open: it is committed, or the learner is closed"))
    }
}

fn warn(py: Python<'_>, news: &News) -> PyResult<()> {
    let News::Warning(text) = news else {
        return Ok(());
    };
    let text = std::ffi::CString::new(text.replace('\0', " ")).unwrap_or_default();
    PyErr::warn(py, &py.get_type::<PyUserWarning>(), &text, 2)
}

fn parsed(what: &str, name: Option<String>) -> PyResult<Option<Name>> {
    name.map(|name| {
        name.parse()
            .map_err(|error| usage(format!("{what}={name:?}: {error}")))
    })
    .transpose()
}

fn json(result: &UpdateResult) -> PyResult<String> {
    serde_json::to_string(result)
        .map_err(|error| Error::new_err(format!("writing the result as JSON: {error}")))
}
