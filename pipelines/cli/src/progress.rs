//! Progress display of a run: bars on a terminal, otherwise a plain line from time to time.

mod json;
mod pace;
mod screen;

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc::UnboundedReceiver;
use vintage_control::{EvaluationResult, UpdateNumber};
use vintage_learner::LearnerEvent;
use vintage_rollout::ProducerEvent;
use vintage_trajectory::Excerpt;

use self::pace::Pace;
pub(crate) use self::screen::Screen;
use vintage_flow::RunEvent;
use vintage_human::{Measured, duration, one_line, prompt_line};

/// Minimum time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(2);
/// Minimum time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(30);
/// Longest text of a sample, in characters.
const SAMPLE: usize = 72;
/// Interval at which bars are redrawn without events, so that the spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Form of the progress display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Display {
    /// Live bars; standard error is a terminal.
    Bars,
    /// Plain lines, at most one every two seconds.
    Lines,
    /// One JSON object per event, for programs.
    Json,
    /// No output.
    Silent,
}

/// Shows the events of a run of `steps` updates until the last sender is gone.
pub(crate) async fn watch(
    mut events: UnboundedReceiver<RunEvent>,
    display: Display,
    screen: Screen,
    steps: u64,
) {
    let mut progress = Progress::new(display, screen, steps);
    while let Some(event) = events.recv().await {
        progress.show(&event, Instant::now());
    }
    progress.finish();
}

/// Formats what a version reached on held-out prompts.
pub(crate) fn evaluation_line(result: &EvaluationResult, measured: Measured) -> String {
    format!(
        "version {}: {} {} on {} held-out prompts (greedy {})",
        result.version,
        measured.name(),
        measured.value(result.sampled_accuracy),
        result.samples,
        measured.value(result.greedy_accuracy),
    )
}

struct Progress {
    display: Display,
    screen: Screen,
    started: Instant,
    pace: Pace,
    /// True if a learner runs in this process; its updates are then shown instead of the producer's
    /// groups.
    learner_here: bool,
    /// Line not shown yet because another was shown shortly before.
    pending: Option<String>,
    last_line: Option<Instant>,
    last_sample: Option<Instant>,
    bars: Option<Bars>,
}

/// Bar for the progress, with a line below it for the quality.
struct Bars {
    far: ProgressBar,
    well: ProgressBar,
}

impl Progress {
    fn new(display: Display, screen: Screen, steps: u64) -> Self {
        Self {
            display,
            screen,
            started: Instant::now(),
            pace: Pace::new(steps),
            learner_here: false,
            pending: None,
            last_line: None,
            last_sample: None,
            bars: None,
        }
    }

    fn show(&mut self, event: &RunEvent, now: Instant) {
        if self.display == Display::Json {
            if let Some(line) = json::timed(event, jiff::Timestamp::now()) {
                self.screen.line(&line);
            }
            return;
        }
        let seconds = now.duration_since(self.started).as_secs_f64();
        self.learner_here |= matches!(event, RunEvent::Learner(_));
        match event {
            RunEvent::Phase(name) => self.phase(name),
            RunEvent::WarmStart { step, steps, loss } => {
                let far = format!("warm start {step}/{steps}");
                let well = format!("loss {loss:.3}");
                self.step(&far, &well, *step, *steps, *step == *steps, now);
            }
            RunEvent::Learner(LearnerEvent::Recovered { version, rerun }) => {
                self.pace.resume_at(version.0);
                if version.0 > 0 {
                    self.note(&format!(
                        "going on at update {version} ({rerun} updates run again from their plans)"
                    ));
                }
            }
            RunEvent::Learner(LearnerEvent::Updated(result)) => {
                self.pace.update(result, seconds);
                self.training(now, seconds);
            }
            RunEvent::Learner(LearnerEvent::Updating {
                update,
                excerpt: Some(excerpt),
            }) => self.sample(*update, excerpt, now),
            RunEvent::Learner(LearnerEvent::Rejected { groups, .. }) => {
                self.pace.rejected += groups;
            }
            RunEvent::Evaluated { result, measured } => {
                if self.display == Display::Lines {
                    self.note(&evaluation_line(result, *measured));
                }
                let sampled = measured.value(result.sampled_accuracy);
                self.pace.held_out = Some(format!("{} {sampled}", measured.name()));
            }
            RunEvent::Replayed { done, updates } => {
                let far = format!("replayed {done}/{updates} updates");
                self.step(&far, "", *done, *updates, done == updates, now);
            }
            RunEvent::Examined {
                version,
                done,
                prompts,
            } => {
                let far = format!("version {version}: {done}/{prompts} prompts answered");
                self.step(&far, "", *done, *prompts, done == prompts, now);
            }
            RunEvent::Recomputed { version, done, of } => {
                let far = format!("version {version}: {done}/{of} groups recomputed");
                self.step(&far, "", *done, *of, done == of, now);
            }
            RunEvent::Differentiated { version, done, of } => {
                let far = format!("version {version}: {done}/{of} backward passes");
                self.step(&far, "", *done, *of, done == of, now);
            }
            RunEvent::Republished { records, of } => {
                let far = format!("read {records}/{of} records");
                self.step(&far, "", *records, *of, records == of, now);
            }
            RunEvent::Producer(ProducerEvent::Published {
                tokens,
                reward,
                version,
                ..
            }) => {
                self.pace.published(*tokens, f64::from(*reward), seconds);
                if !self.learner_here {
                    self.producing(version.0, now, seconds);
                }
            }
            RunEvent::Archived { records, bad } => {
                let bad: u64 = bad.values().sum();
                let bad = if bad == 0 {
                    String::new()
                } else {
                    format!("{bad} quarantined")
                };
                self.moving(&format!("archiving: {records} records came"), &bad, now);
            }
            RunEvent::Standstill(line) => self.note(line),
            RunEvent::Warning(line) => self.note(&format!("warning: {line}")),
            RunEvent::Learner(_)
            | RunEvent::Producer(_)
            | RunEvent::Fleet(_)
            | RunEvent::Announced { .. }
            | RunEvent::Evaluating { .. } => {}
        }
    }

    /// Shows a completion that is being trained, now and then.
    fn sample(&mut self, update: UpdateNumber, excerpt: &Excerpt, now: Instant) {
        let is_due = self
            .last_sample
            .is_none_or(|last| now.duration_since(last) >= SAMPLE_EVERY);
        if !is_due || self.display == Display::Silent {
            return;
        }
        self.last_sample = Some(now);
        let answer = excerpt.answer.as_ref();
        let answer = answer.map(|answer| format!(" (answer {})", one_line(answer, SAMPLE / 2)));
        self.note(&format!(
            "sample of update {update}: {}{} → {}  reward {}",
            prompt_line(&excerpt.prompt, SAMPLE),
            answer.unwrap_or_default(),
            one_line(&excerpt.completion, SAMPLE),
            excerpt.reward,
        ));
    }

    fn phase(&mut self, name: &str) {
        self.flush();
        match self.display {
            Display::Bars => {
                let bars = self.bars();
                bars.far.set_style(style(SPINNER));
                bars.far.set_message(name.to_owned());
                bars.well.set_message("");
            }
            Display::Lines => self.note(name),
            Display::Json | Display::Silent => {}
        }
    }

    fn training(&mut self, now: Instant, seconds: f64) {
        let (done, steps) = (self.pace.done(), self.pace.steps);
        let rate = self.pace.updates_per_second(seconds);
        let left = rate
            .filter(|_| done < steps)
            .map(|rate| (steps - done) as f64 / rate);
        // The number of updates done, whereas updates are numbered from 0.
        let mut far = vec![format!("{done}/{steps} updates")];
        far.extend(rate.map(|rate| match rate {
            0.1.. => format!("{rate:.1} updates/s"),
            _ => format!("{:.0} s an update", 1.0 / rate),
        }));
        far.extend(left.map(|left| format!("{} left", duration(left))));
        let well = self.pace.quality(seconds);
        self.step(&far.join("  "), &well, done, steps, done == steps, now);
    }

    fn producing(&mut self, version: u64, now: Instant, seconds: f64) {
        let far = format!("published {} groups  version {version}", self.pace.groups);
        let well = self.pace.production(seconds);
        self.moving(&far, &well, now);
    }

    /// Shows a step of a task whose end is unknown.
    fn moving(&mut self, far: &str, well: &str, now: Instant) {
        match self.display {
            Display::Bars => {
                let bars = self.bars();
                bars.far.set_style(style(SPINNER));
                bars.far.set_message(far.to_owned());
                bars.well.set_message(well.to_owned());
            }
            Display::Lines | Display::Json | Display::Silent => {
                self.step(far, well, 0, 0, false, now);
            }
        }
    }

    /// Shows step `at` of `of`: `far` describes the progress, `well` the quality.
    fn step(&mut self, far: &str, well: &str, at: u64, of: u64, last: bool, now: Instant) {
        match self.display {
            Display::Bars => {
                let bars = self.bars();
                bars.far.set_style(style(BAR).progress_chars("━╸─"));
                bars.far.set_length(of);
                bars.far.set_position(at);
                bars.far.set_message(far.to_owned());
                bars.well.set_message(well.to_owned());
            }
            Display::Lines => {
                let line = format!("{far}  {well}").trim_end().to_owned();
                let due = self.last_line.is_none_or(|shown| now - shown >= LINE_EVERY);
                if due || last {
                    self.last_line = Some(now);
                    self.pending = None;
                    self.note(&line);
                } else {
                    self.pending = Some(line);
                }
            }
            Display::Json | Display::Silent => {}
        }
    }

    /// Writes a permanent line.
    fn note(&self, line: &str) {
        if self.display != Display::Silent {
            self.screen.line(line);
        }
    }

    fn flush(&mut self) {
        if let Some(line) = self.pending.take() {
            self.note(&line);
        }
        self.last_line = None;
    }

    fn finish(&mut self) {
        self.flush();
        if let Some(bars) = self.bars.take() {
            bars.well.finish_and_clear();
            bars.far.finish_and_clear();
        }
    }

    fn bars(&mut self) -> &Bars {
        let screen = &self.screen;
        self.bars.get_or_insert_with(|| {
            let far = screen.add(ProgressBar::no_length().with_style(style(SPINNER)));
            let well = screen.add(ProgressBar::no_length().with_style(style(BELOW)));
            far.enable_steady_tick(TICK);
            Bars { far, well }
        })
    }
}

const SPINNER: &str = "{spinner} {wide_msg}";
const BAR: &str = "{bar:24.cyan/dim} {percent:>3} %  {wide_msg}";
const BELOW: &str = "  {wide_msg:.dim}";

fn style(template: &str) -> ProgressStyle {
    // A test parses each of the constants above.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
pub(crate) mod tests;
