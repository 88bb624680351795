//! `vintage experiment staleness`: starts the runs of the arms that are not finished, some at a time, reads all
//! of them, and writes the table.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};
use vintage_experiment::staleness::{Arm, Grid, Report, State, Trial};
use vintage_flow::config_file;
use vintage_human::duration;

use super::{
    super::Context,
    child::{self, Ended, Start, Step},
    pace::Pace,
    page,
};
use crate::{
    args::GridArgs,
    exit::{CommandOutcome, Signal, Usage},
    progress::Display,
};

/// Part of the summary of a run that the experiment needs.
#[derive(Debug, Deserialize)]
struct Done {
    finished: bool,
    updates: u64,
    /// Seconds of the process that ended the run.
    seconds: f64,
}

/// Experiment with its folder.
struct Experiment<'a> {
    args: &'a GridArgs,
    context: &'a Context,
    folder: PathBuf,
    grid: Grid,
    arms: Vec<Arm>,
    /// Messages of runs that failed, by the places of their arms.
    failed: Vec<Option<String>>,
}

/// Runs the experiment.
pub(super) async fn staleness(args: &GridArgs, context: &Context) -> Result<CommandOutcome> {
    let grid = args.grid();
    grid.check()?;
    if let Some((setting, how)) = args.taken() {
        let what = format!("--set {setting}: the experiment gives this setting itself, {how}");
        return Err(Usage::new(what).into());
    }
    if let [name, ..] = args.idle_rates()[..] {
        return Err(Usage::new(format!("--lr names {name}, which --losses does not")).into());
    }
    let arms = grid.arms();
    let mut experiment = Experiment {
        args,
        context,
        folder: args.folder(),
        failed: vec![None; arms.len()],
        arms,
        grid,
    };
    experiment.check()?;
    if args.dry_run {
        return experiment.show();
    }
    let folder = experiment.folder.clone();
    let logs = folder.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let Some(hold) = experiment.lock().await? else {
        return Ok(CommandOutcome::Interrupted(experiment.signal()));
    };
    experiment.run(&hold).await?;
    let report = experiment.report().await?;
    let written = page::write(&report, args, &folder)?;
    context.output.print(&report, |report| {
        format!("{}\n{}\n", report.text(), written.display())
    })?;
    let stopped = context.signals.received();
    Ok(match stopped {
        Some(signal) if report.unfinished > 0 => CommandOutcome::Interrupted(signal),
        _ if report.failed > 0 => CommandOutcome::Negative,
        _ => CommandOutcome::Done,
    })
}

impl Experiment<'_> {
    fn folder_of(&self, arm: &Arm) -> PathBuf {
        self.folder.join(arm.name())
    }

    /// Writes a line on standard error, unless nothing is to be said.
    fn say(&self, line: &str) {
        if self.context.display != Display::Silent {
            self.context.screen.line(line);
        }
    }

    fn signal(&self) -> Signal {
        let received = self.context.signals.received();
        received.unwrap_or(Signal::Interrupt)
    }

    /// Checks the settings of every run before the first begins, and those of runs that are there.
    fn check(&self) -> Result<()> {
        for arm in &self.arms {
            let settings = self.args.resolve(arm, self.grid.updates)?.config;
            let folder = self.folder_of(arm);
            let recorded = config_file(&folder);
            if !recorded.is_file() {
                continue;
            }
            let found = vintage_config::read(&recorded)?;
            vintage_config::check_resumable(&settings, &found, &folder)?;
            // A run may be made longer, or be evaluated otherwise; then it is no longer one of a table.
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
            if let Some((name, now, then)) = same.into_iter().find(|(_, now, then)| now != then) {
                let what = format!(
                    "{} is of another experiment: its {name} is {then}, here it is {now}",
                    folder.display()
                );
                return Err(Usage::new(what)
                    .hint("give the settings that the folder began with, or another --out")
                    .into());
            }
        }
        Ok(())
    }

    /// Returns the summary of an arm's run, if it has done its updates.
    fn done(&self, arm: &Arm) -> Result<Option<Done>> {
        let summary = vintage_report::read_summary::<Done>(&self.folder_of(arm))?;
        Ok(summary.filter(|done| done.finished && done.updates >= self.grid.updates))
    }

    /// Returns the places of the arms that are not finished, and what is known of their pace.
    fn waiting(&self) -> Result<(VecDeque<usize>, Pace)> {
        let jobs = self.args.jobs(cores());
        let mut pace = Pace::new(self.grid.updates, jobs);
        let mut waiting = VecDeque::new();
        for (at, arm) in self.arms.iter().enumerate() {
            match self.done(arm)? {
                None => waiting.push_back(at),
                Some(done) => pace.measured(done.seconds),
            }
        }
        Ok((waiting, pace))
    }

    /// Says which runs there are and what they will take.
    fn announce(&self, waiting: usize, pace: &Pace) -> String {
        let all = self.arms.len();
        let left = match all - waiting {
            0 => String::new(),
            done => format!(", {done} done already"),
        };
        let jobs = self.args.jobs(cores());
        let disk = self.arms.iter().map(|arm| pace.megabytes(arm.staleness));
        format!(
            "{}: {}, {} of staleness, {}, {} updates each{left}; {} at a time: about {}, {}; {:.1} GB of disk in all",
            counted(all as u64, "run"),
            counted(self.grid.losses.len() as u64, "loss"),
            counted(self.grid.staleness.len() as u64, "value"),
            counted(self.grid.seeds, "seed"),
            self.grid.updates,
            jobs,
            duration(pace.left(waiting as f64)),
            pace.basis(),
            disk.sum::<f64>() / 1e3,
        )
    }

    /// Prints the runs with their settings, for `--dry-run`.
    fn show(&self) -> Result<CommandOutcome> {
        let (waiting, pace) = self.waiting()?;
        let mut text = format!("{}\n", self.announce(waiting.len(), &pace));
        for (at, arm) in self.arms.iter().enumerate() {
            let state = if waiting.contains(&at) { "" } else { "  done" };
            let settings = self.args.settings(arm, self.grid.updates).join(" --set ");
            let folder = self.folder_of(arm);
            let _infallible = writeln!(
                text,
                "vintage run --out {} --set {settings}{state}",
                folder.display()
            );
        }
        self.context.output.print(&self.arms, |_| text)?;
        Ok(CommandOutcome::Done)
    }

    /// Takes the lock of the folder; `None` if a signal came while another process had it.
    async fn lock(&self) -> Result<Option<File>> {
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
        self.say(&self.announce(waiting.len(), &pace));
        let jobs = self.args.jobs(cores());
        let (steps, mut heard): (UnboundedSender<Step>, UnboundedReceiver<Step>) =
            unbounded_channel();
        let mut running: JoinSet<Result<(usize, Ended)>> = JoinSet::new();
        let stop = self.context.signals.stop.clone();
        loop {
            while running.len() < jobs && !stop.is_cancelled() {
                let Some(at) = waiting.pop_front() else { break };
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
                    let Some(ended) = ended else { break };
                    let (at, ended) = ended.context("a run's task ended")??;
                    self.ended(at, &ended, &mut pace, waiting.len() + running.len())?;
                }
                Some(step) = heard.recv() => {
                    if pace.heard(step.arm, step.after) {
                        let left = pace.left((waiting.len() + running.len()) as f64);
                        self.say(&format!("about {} left, by the pace of the first run", duration(left)));
                    }
                }
            }
        }
        Ok(())
    }

    fn start(&self, at: usize) -> Start {
        let arm = &self.arms[at];
        let log = self
            .folder
            .join("logs")
            .join(format!("{}.jsonl", arm.name()));
        Start {
            folder: self.folder_of(arm),
            log,
            settings: self.args.settings(arm, self.grid.updates),
            threads: self.args.threads,
        }
    }

    /// Notes how a run ended, and says so.
    fn ended(&mut self, at: usize, ended: &Ended, pace: &mut Pace, left: usize) -> Result<()> {
        let arm = self.arms[at];
        let name = arm.name();
        let all = self.arms.len();
        if self.done(&arm)?.is_some() {
            pace.measured(ended.took.as_secs_f64());
            let took = duration(ended.took.as_secs_f64());
            let more = match left {
                0 => String::new(),
                left => format!("; about {} left", duration(pace.left(left as f64))),
            };
            self.say(&format!(
                "{name}: done in {took}, {} of {all} runs{more}",
                all - left
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

    /// Reads what every run came to.
    async fn report(&mut self) -> Result<Report> {
        let mut trials = Vec::new();
        for (arm, failed) in self.arms.iter().zip(&mut self.failed) {
            let folder = self.folder.join(arm.name());
            trials.push(trial(*arm, &folder, failed.take(), self.grid.updates).await?);
        }
        Ok(Report::new(self.grid.clone(), trials))
    }
}

/// Reads what the run of an arm came to; `failed` is its message if it failed now.
async fn trial(arm: Arm, folder: &Path, failed: Option<String>, updates: u64) -> Result<Trial> {
    if !config_file(folder).is_file() {
        let state = failed.map_or(State::NotBegun, |reason| State::Failed { reason });
        return Ok(Trial::new(arm, state, &[], &[]));
    }
    let course = vintage_flow::read_course(folder).await?;
    let summary = vintage_report::read_summary::<Done>(folder)?;
    let is_done = summary.is_some_and(|done| done.finished && done.updates >= updates);
    let state = match failed {
        Some(reason) => State::Failed { reason },
        None if is_done => State::Finished,
        None => State::Unfinished,
    };
    Ok(Trial::new(arm, state, &course.results, &course.evaluations))
}

/// Formats a count with the name of what is counted.
fn counted(count: u64, name: &str) -> String {
    match (count, name.ends_with('s')) {
        (1, _) => format!("1 {name}"),
        (_, true) => format!("{count} {name}es"),
        (_, false) => format!("{count} {name}s"),
    }
}

/// Returns the number of cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
