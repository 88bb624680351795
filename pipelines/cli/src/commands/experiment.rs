//! `vintage experiment`: one arm an experiment; each calls the library and prints.

mod child;
mod pace;
mod page;
mod reuse;
mod reuse_page;
mod runs;
mod staleness;
mod staleness_page;

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use vintage_experiment::lock::{Report, run};

use super::Context;
use crate::{
    args::{ExperimentCommand, LockArgs},
    exit::{CommandOutcome, Signal},
    progress::Display,
};

/// Runs the experiment that was asked for.
pub(crate) async fn experiment(
    command: &ExperimentCommand,
    context: &Context,
) -> Result<CommandOutcome> {
    match command {
        ExperimentCommand::Lock(args) => lock(args, context).await,
        ExperimentCommand::Staleness(args) => Box::pin(staleness::staleness(args, context)).await,
        ExperimentCommand::Reuse(args) => Box::pin(reuse::reuse(args, context)).await,
    }
}

/// Runs the combination lock; a line on standard error for every tenth of the seeds. A signal ends it.
async fn lock(args: &LockArgs, context: &Context) -> Result<CommandOutcome> {
    let settings = args.settings();
    settings.check()?;
    let screen = (context.display != Display::Silent).then(|| context.screen.clone());
    let played = tokio::task::spawn_blocking(move || {
        let (seeds, ended) = (settings.seeds, AtomicU64::new(0));
        run(&settings, &|_| {
            let ended = ended.fetch_add(1, Ordering::Relaxed) + 1;
            let tenths = |ended: u64| ended * 10 / seeds;
            if let Some(screen) = &screen
                && tenths(ended) > tenths(ended - 1)
            {
                screen.line(&format!("{ended} of {seeds} seeds"));
            }
        })
    });
    let report = tokio::select! {
        report = played => report??,
        () = context.signals.stop.cancelled() => {
            let signal = context.signals.received().unwrap_or(Signal::Interrupt);
            return Ok(CommandOutcome::Interrupted(signal));
        }
    };
    context.output.print(&report, Report::text)?;
    Ok(CommandOutcome::Done)
}
