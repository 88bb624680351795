//! Runs of an experiment: processes that are started some at a time, and go on where they were stopped.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};
use vintage_control::AlgorithmName;
use vintage_experiment::course::{Counts, State, Trial};
use vintage_flow::config_file;
use vintage_human::duration;
use vintage_settings::RunConfig;

use super::{
    super::Context,
    child::{self, Ended, Start, Step},
    pace::Pace,
};
use crate::{
    args::ConfigArgs,
    exit::{CommandOutcome, Signal, Usage},
    progress::Display,
};

/// Run to be done.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// Name, which is that of its folder.
    pub(super) name: String,
    /// Values of `--set`.
    pub(super) settings: Vec<String>,
    /// Number of updates.
    pub(super) updates: u64,
    /// Number of versions that are kept besides a run's usual ones.
    pub(super) versions: u64,
    /// Place of the run that has to be done first.
    pub(super) after: Option<usize>,
}

/// Part of the summary of a run that the experiment needs.
#[derive(Debug, Deserialize)]
struct Done {
    finished: bool,
    updates: u64,
    /// Seconds of the process that ended the run.
    seconds: f64,
}

/// Runs of an experiment in its folder.
pub(super) struct Runs<'a> {
    context: &'a Context,
    folder: PathBuf,
    /// Description of the runs.
    what: String,
    planned: Vec<Planned>,
    /// Runs at a time.
    jobs: usize,
    /// Threads that compute in a run.
    threads: u16,
    /// Messages of runs that failed, by their places.
    failed: Vec<Option<String>>,
}

impl<'a> Runs<'a> {
    /// Creates the runs of an experiment in `folder`, `jobs` of which are done at a time.
    pub(super) fn new(
        context: &'a Context,
        (folder, what): (PathBuf, String),
        planned: Vec<Planned>,
        (jobs, threads): (usize, u16),
    ) -> Self {
        Self {
            context,
            folder,
            what,
            failed: vec![None; planned.len()],
            planned,
            jobs,
            threads,
        }
    }

    fn folder_of(&self, run: &Planned) -> PathBuf {
        self.folder.join(&run.name)
    }

    /// Writes a line on standard error, unless nothing is to be said.
    fn say(&self, line: &str) {
        if self.context.display != Display::Silent {
            self.context.screen.line(line);
        }
    }

    /// Does the runs that are not done. Returns the outcome of the command where there is nothing to report: after a
    /// dry run, which prints `arms` for machines, and if a signal came first.
    pub(super) async fn complete(
        &mut self,
        dry_run: bool,
        arms: &impl Serialize,
    ) -> Result<Option<CommandOutcome>> {
        self.check()?;
        if dry_run {
            return self.show(arms).map(Some);
        }
        let Some(hold) = self.lock().await? else {
            return Ok(Some(self.interrupted()));
        };
        self.run(&hold).await?;
        Ok(None)
    }

    /// Checks the settings of every run before the first begins, and those of runs that are there.
    fn check(&self) -> Result<()> {
        for run in &self.planned {
            let args = ConfigArgs {
                set: run.settings.clone(),
                ..ConfigArgs::default()
            };
            let settings = args.resolve(None, &[])?.config;
            let folder = self.folder_of(run);
            let recorded = config_file(&folder);
            if recorded.is_file() {
                let found = vintage_config::read(&recorded)?;
                vintage_config::check_resumable(&settings, &found, &folder)?;
                check_length(&settings, &found, &folder)?;
            }
        }
        Ok(())
    }

    /// Returns the summary of a run, if it has done its updates.
    fn done(&self, run: &Planned) -> Result<Option<Done>> {
        let summary = vintage_report::read_summary::<Done>(&self.folder_of(run))?;
        Ok(summary.filter(|done| done.finished && done.updates >= run.updates))
    }

    /// Returns the places of the runs that are not finished, and what is known of their pace.
    fn waiting(&self) -> Result<(VecDeque<usize>, Pace)> {
        let mut pace = Pace::new(self.jobs);
        let mut waiting = VecDeque::new();
        for (at, run) in self.planned.iter().enumerate() {
            match self.done(run)? {
                None => waiting.push_back(at),
                Some(done) => pace.measured(run.updates, done.seconds),
            }
        }
        Ok((waiting, pace))
    }

    /// Says which runs there are and what they will take.
    fn announce(&self, waiting: &VecDeque<usize>, pace: &Pace) -> String {
        let all = self.planned.len();
        let done = match all - waiting.len() {
            0 => String::new(),
            done => format!(", {done} done already"),
        };
        let disk = self.planned.iter();
        let disk: f64 = disk
            .map(|run| Pace::megabytes(run.updates, run.versions))
            .sum();
        format!(
            "{}: {}{done}; {} at a time: about {}, {}; {:.1} GB of disk in all",
            counted(all as u64, "run"),
            self.what,
            self.jobs,
            duration(self.left(pace, waiting.iter())),
            pace.basis(),
            disk / 1e3,
        )
    }

    fn left<'b>(&self, pace: &Pace, places: impl Iterator<Item = &'b usize>) -> f64 {
        pace.left(places.map(|at| self.planned[*at].updates))
    }

    /// Prints the runs with their settings, for `--dry-run`; `arms` are what machines read.
    fn show(&self, arms: &impl Serialize) -> Result<CommandOutcome> {
        let (waiting, pace) = self.waiting()?;
        let mut text = format!("{}\n", self.announce(&waiting, &pace));
        for (at, run) in self.planned.iter().enumerate() {
            let state = if waiting.contains(&at) { "" } else { "  done" };
            let settings = run.settings.join(" --set ");
            let folder = self.folder_of(run);
            let _infallible = writeln!(
                text,
                "vintage run --out {} --set {settings}{state}",
                folder.display()
            );
        }
        self.context.output.print(arms, |_| text)?;
        Ok(CommandOutcome::Done)
    }

    /// Creates the folder and takes its lock; `None` if a signal came while another process had it.
    async fn lock(&self) -> Result<Option<File>> {
        let logs = self.folder.join("logs");
        std::fs::create_dir_all(&logs)
            .with_context(|| format!("cannot create {}", logs.display()))?;
        let (folder, screen) = (self.folder.clone(), self.context.screen.clone());
        let taking = tokio::task::spawn_blocking(move || {
            child::lock(&folder, || {
                let folder = folder.display();
                screen.line(&format!(
                    "another experiment works in {folder}: waiting for its end"
                ));
            })
        });
        tokio::select! {
            taken = taking => {
                let path = self.folder.display();
                Ok(Some(taken?.with_context(|| format!("cannot lock {path}"))?))
            }
            () = self.context.signals.stop.cancelled() => Ok(None),
        }
    }

    /// Starts the runs that are not finished, and waits for them. After a signal none is started.
    async fn run(&mut self, hold: &File) -> Result<()> {
        let (mut waiting, mut pace) = self.waiting()?;
        if waiting.is_empty() {
            return Ok(());
        }
        self.say(&self.announce(&waiting, &pace));
        let (steps, mut heard): (UnboundedSender<Step>, UnboundedReceiver<Step>) =
            unbounded_channel();
        let mut running: JoinSet<Result<(usize, Ended)>> = JoinSet::new();
        let mut places: Vec<usize> = Vec::new();
        let stop = self.context.signals.stop.clone();
        loop {
            while running.len() < self.jobs && !stop.is_cancelled() {
                let Some(at) = self.next(&mut waiting)? else {
                    break;
                };
                places.push(at);
                let start = self.start(at);
                let hold = hold.try_clone().context("cannot share the lock")?;
                let (steps, stop) = (steps.clone(), stop.clone());
                running.spawn(async move {
                    let ended = child::run(&start, at, hold, &steps, &stop).await;
                    let folder = start.folder.display();
                    Ok((at, ended.with_context(|| format!("cannot run {folder}"))?))
                });
            }
            tokio::select! {
                ended = running.join_next() => {
                    let Some(ended) = ended else {
                        self.say_left_out(&waiting);
                        break;
                    };
                    let (at, ended) = ended.context("a run's task ended")??;
                    places.retain(|place| *place != at);
                    let left: Vec<_> = waiting.iter().chain(&places).copied().collect();
                    self.ended(at, &ended, &mut pace, &left)?;
                }
                Some(step) = heard.recv() => {
                    let updates = self.planned[step.arm].updates;
                    if pace.heard(step.arm, updates, step.after) {
                        let left = self.left(&pace, waiting.iter().chain(&places));
                        self.say(&format!("about {} left, by the pace of the first run", duration(left)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Says which runs were not begun because one that they need failed.
    fn say_left_out(&self, waiting: &VecDeque<usize>) {
        if self.context.signals.stop.is_cancelled() {
            return;
        }
        for run in waiting.iter().map(|at| &self.planned[*at]) {
            let first = run.after.map_or("", |at| &self.planned[at].name);
            self.say(&format!("{}: not begun, because {first} failed", run.name));
        }
    }

    /// Removes the first run that may begin; `None` if all that are left wait for others.
    fn next(&self, waiting: &mut VecDeque<usize>) -> Result<Option<usize>> {
        for place in 0..waiting.len() {
            let ready = match self.planned[waiting[place]].after {
                None => true,
                Some(first) => self.done(&self.planned[first])?.is_some(),
            };
            if ready {
                return Ok(waiting.remove(place));
            }
        }
        Ok(None)
    }

    fn start(&self, at: usize) -> Start {
        let run = &self.planned[at];
        let log = format!("{}.jsonl", run.name);
        Start {
            folder: self.folder_of(run),
            log: self.folder.join("logs").join(log),
            settings: run.settings.clone(),
            threads: self.threads,
        }
    }

    /// Notes how a run ended, and says so. `left` are the places of those that are not done.
    fn ended(&mut self, at: usize, ended: &Ended, pace: &mut Pace, left: &[usize]) -> Result<()> {
        let run = &self.planned[at];
        let name = &run.name;
        let all = self.planned.len();
        if self.done(run)?.is_some() {
            pace.measured(run.updates, ended.took.as_secs_f64());
            let took = duration(ended.took.as_secs_f64());
            let more = match left {
                [] => String::new(),
                left => format!("; about {} left", duration(self.left(pace, left.iter()))),
            };
            self.say(&format!(
                "{name}: done in {took}, {} of {all} runs{more}",
                all - left.len()
            ));
        } else if self.context.signals.stop.is_cancelled() {
            self.say(&format!("{name}: stopped; the same command goes on"));
        } else {
            let said = ended.said.join(" ");
            let reason = match said.trim_start_matches("error: ") {
                "" => format!("ended without a message ({})", ended.status),
                said => said.to_owned(),
            };
            self.say(&format!("{name}: FAILED: {reason}"));
            self.failed[at] = Some(reason);
        }
        Ok(())
    }

    /// Reads what every run came to. `arms` are those of the runs, each with its loss, in their order.
    pub(super) async fn trials<A>(
        &mut self,
        arms: impl IntoIterator<Item = (A, AlgorithmName)>,
    ) -> Result<Vec<Trial<A>>> {
        let mut trials = Vec::new();
        for ((arm, loss), at) in arms.into_iter().zip(0..) {
            let failed = self.failed[at].take();
            let folder = self.folder_of(&self.planned[at]);
            if !config_file(&folder).is_file() {
                let state = failed.map_or(State::NotBegun, |reason| State::Failed { reason });
                trials.push(Trial::new(arm, loss, state, &[], &[]));
                continue;
            }
            let course = vintage_flow::read_course(&folder).await?;
            let state = match failed {
                Some(reason) => State::Failed { reason },
                None if self.done(&self.planned[at])?.is_some() => State::Finished,
                None => State::Unfinished,
            };
            let (results, evaluations) = (&course.results, &course.evaluations);
            trials.push(Trial::new(arm, loss, state, results, evaluations));
        }
        Ok(trials)
    }

    /// Returns the outcome of the command, by the runs that failed and those that are left.
    pub(super) fn outcome(&self, counts: Counts) -> CommandOutcome {
        match self.context.signals.received() {
            Some(signal) if counts.unfinished > 0 => CommandOutcome::Interrupted(signal),
            _ if counts.failed > 0 => CommandOutcome::Negative,
            _ => CommandOutcome::Done,
        }
    }

    /// Returns the outcome of a command that a signal ended before it began.
    fn interrupted(&self) -> CommandOutcome {
        let received = self.context.signals.received();
        CommandOutcome::Interrupted(received.unwrap_or(Signal::Interrupt))
    }
}

/// Refuses a run that is there and is longer, shorter or evaluated otherwise: a run may be made so, but then it
/// is no longer one of a table.
fn check_length(settings: &RunConfig, found: &RunConfig, folder: &Path) -> Result<()> {
    let same = [
        ("learner.steps", settings.learner.steps, found.learner.steps),
        (
            "evaluation.every",
            settings.evaluation.every,
            found.evaluation.every,
        ),
        (
            "evaluation.prompts",
            settings.evaluation.prompts as u64,
            found.evaluation.prompts as u64,
        ),
    ];
    let Some((name, now, then)) = same.into_iter().find(|(_, now, then)| now != then) else {
        return Ok(());
    };
    let what = format!(
        "{} is of another experiment: its {name} is {then}, here it is {now}",
        folder.display()
    );
    Err(Usage::new(what)
        .hint("give the settings that the folder began with, or another --out")
        .into())
}

/// Formats a count with the name of what is counted.
pub(super) fn counted(count: u64, name: &str) -> String {
    match (count, name.ends_with('s')) {
        (1, _) => format!("1 {name}"),
        (_, true) => format!("{count} {name}es"),
        (_, false) => format!("{count} {name}s"),
    }
}

/// Returns the number of cores that this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
