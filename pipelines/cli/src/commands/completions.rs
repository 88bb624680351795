//! `vintage completions`: prints a shell's completion script.
use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::{CompleteEnv, env::Shells};

use crate::{
    args::{Cli, CompletionsArgs},
    exit::CommandOutcome,
    output::print_text,
};

/// Variable by which the script asks the program for what may follow.
const ASKED: &str = "_VINTAGE_COMPLETE";

/// Runs `vintage completions SHELL`.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<CommandOutcome> {
    let shell = args.shell.to_string();
    let shells = Shells::builtins();
    let shell = shells
        .completer(&shell)
        .context("no script for this shell")?;
    let mut script = Vec::new();
    shell.write_registration(ASKED, "vintage", "vintage", "vintage", &mut script)?;
    print_text(&String::from_utf8_lossy(&script))?;
    Ok(CommandOutcome::Done)
}

/// Answers the script and ends the process, if it is the script that asks.
pub(crate) fn answer() {
    CompleteEnv::with_factory(Cli::command)
        .var(ASKED)
        .complete();
}
