//! The `vintage` binary: parses the command line, runs a command and turns its result into an exit
//! code.
//!
//! Where to begin reading:
//!
//! * `args/` defines every verb and flag; its doc comments are the texts of `--help`.
//! * `commands.rs` dispatches a verb to its file in `commands/`; each file calls a library and
//!   prints.
//! * `exit.rs` maps results and errors to exit codes and `error:` lines.
//! * `output.rs` writes results to standard output; `shown.rs` sets up logs and progress on
//!   standard error.
//! * `signals.rs` handles ^C and SIGTERM; `limits.rs` checks open files and threads before a verb
//!   starts.

mod allocator;
mod args;
mod commands;
mod exit;
mod limits;
mod output;
mod progress;
mod shown;
mod signals;

use anyhow::{Context as _, Result};
use clap::Parser;

use self::{
    args::Cli,
    commands::Context,
    exit::{CommandOutcome, Signal},
    output::Output,
    signals::{LET_GO, Signals},
};

fn main() -> ! {
    commands::completions::answer();
    let code = match Cli::try_parse().map(start) {
        Ok(Ok(outcome)) => exit::ended(outcome, output::lost()),
        Ok(Err(error)) => exit::report(&error),
        // Requests for help and the version also arrive as errors.
        Err(message) => exit::clap_message(&message),
    };
    code.leave()
}

fn start(cli: Cli) -> Result<CommandOutcome> {
    let screen = shown::start(&cli.shown)?;
    limits::check(&cli.verb)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let outcome = runtime.block_on(async {
        let signals = Signals::listen(screen.clone()).context("cannot listen for signals")?;
        let context = Context {
            output: Output {
                format: cli.shown.output,
            },
            display: shown::display(&cli.shown),
            screen,
            signals: signals.clone(),
        };
        tokio::select! {
            outcome = commands::execute(cli.verb, &context) => match (outcome, signals.received()) {
                (Err(error), Some(signal)) if is_interruption(&error) => {
                    Ok(CommandOutcome::Interrupted(signal))
                }
                (outcome, _) => outcome,
            },
            () = signals.abort.cancelled() => {
                Ok(CommandOutcome::Interrupted(signals.received().unwrap_or(Signal::Interrupt)))
            }
        }
    });
    runtime.shutdown_timeout(LET_GO);
    outcome
}

/// Returns true if a verb ended early because it was asked to.
fn is_interruption(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(vintage_flow::Error::Interrupted))
}
