use anyhow::Result;
use clap::CommandFactory as _;

use super::Context;
use crate::{
    args::{Cli, CompletionsArgs},
    exit::Outcome,
};

/// `vintage completions SHELL`
pub(crate) fn completions(args: &CompletionsArgs, context: &Context) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vintage", &mut script);
    context.output.text(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}
