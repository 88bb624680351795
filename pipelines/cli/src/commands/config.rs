//! `vintage config`: prints settings and presets.
use anyhow::Result;
use vintage_config::{Key, presets};
use vintage_settings::RunConfig;

use super::Context;
use crate::{
    args::{ConfigCommand, ConfigShowArgs},
    exit::{CommandOutcome, Usage},
    output::print_text,
};

/// Runs `vintage config show` or `vintage config presets`.
pub(crate) fn config(command: &ConfigCommand, context: &Context) -> Result<CommandOutcome> {
    match command {
        ConfigCommand::Show(args) => show(args, context)?,
        ConfigCommand::Presets => {
            let names: Vec<_> = presets::names().collect();
            context
                .output
                .print(&names, |names| format!("{}\n", names.join("\n")))?;
        }
    }
    Ok(CommandOutcome::Done)
}

fn show(args: &ConfigShowArgs, context: &Context) -> Result<()> {
    let resolved = args.config.resolve(None, &[])?;
    let within = match &args.key {
        None => Key::root(),
        Some(text) => Key::parse(text)
            .filter(|key| resolved.has(key))
            .ok_or_else(|| unknown(text, &resolved))?,
    };
    if context.output.is_json() {
        return context
            .output
            .print(&resolved.to_json(&within), |_| String::new());
    }
    print_text(&resolved.show(&within, args.origin))
}

fn unknown(text: &str, resolved: &vintage_config::Resolved<RunConfig>) -> Usage {
    let error = Usage::new(format!("no setting or section is called {text}"));
    let near = Key::parse(text)
        .map(|key| resolved.nearest(&key))
        .unwrap_or_default();
    if near.is_empty() {
        return error.hint("`vintage config show` lists every setting");
    }
    let near: Vec<_> = near.iter().map(ToString::to_string).collect();
    error.hint(format!("did you mean {}?", near.join(" or ")))
}
