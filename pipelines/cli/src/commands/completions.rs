//! `vintage completions`: prints a shell's completion script.
use anyhow::Result;
use clap::CommandFactory as _;

use crate::{
    args::{Cli, CompletionsArgs},
    exit::CommandOutcome,
    output::print_text,
};

/// Runs `vintage completions SHELL`.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<CommandOutcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vintage", &mut script);
    print_text(&String::from_utf8_lossy(&script))?;
    Ok(CommandOutcome::Done)
}
