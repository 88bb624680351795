//! `vintage config` and `vintage init`: settings, what they mean, and presets.
use std::{fmt::Write as _, fs::File, io::Write as _};

use anyhow::{Context as _, Result};
use serde_json::json;
use vintage_config::{Explained, Key, presets};
use vintage_settings::RunConfig;

use super::Context;
use crate::{
    args::{ConfigCommand, ConfigExplainArgs, ConfigShowArgs, InitArgs},
    exit::{CommandOutcome, Usage},
    output::print_text,
};

/// Runs `vintage config show` or `vintage config presets`.
pub(crate) fn config(command: &ConfigCommand, context: &Context) -> Result<CommandOutcome> {
    match command {
        ConfigCommand::Show(args) => show(args, context)?,
        ConfigCommand::Explain(args) => explain(args, context)?,
        ConfigCommand::Presets => {
            let summary = |name| (name, presets::summary(name).unwrap_or_default());
            let all: Vec<_> = presets::names().map(summary).collect();
            if context.output.is_json() {
                let named =
                    |(name, summary): &(&str, String)| json!({"name": name, "summary": summary});
                let all: Vec<_> = all.iter().map(named).collect();
                context.output.print(&all, |_| String::new())?;
            } else {
                let lines = all
                    .iter()
                    .map(|(name, summary)| format!("{name:12} {summary}\n"));
                print_text(&lines.collect::<String>())?;
            }
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

/// Runs `vintage init`.
pub(crate) fn init(args: &InitArgs) -> Result<CommandOutcome> {
    let name = args.file.display();
    let file = File::create_new(&args.file);
    let mut file = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let error = Usage::new(format!("{name} exists, and is left as it is"));
            return Err(error.hint("name another file").into());
        }
        file => file.with_context(|| format!("creating {name}"))?,
    };
    file.write_all(vintage_config::template().as_bytes())
        .with_context(|| format!("writing {name}"))?;
    print_text(&format!(
        "{name} has every setting, commented out; edit it, then: vintage run -c {name}\n"
    ))?;
    Ok(CommandOutcome::Done)
}

fn explain(args: &ConfigExplainArgs, context: &Context) -> Result<()> {
    let mut found = vintage_config::explained();
    if let Some(text) = &args.key {
        let key = Key::parse(text).unwrap_or_else(Key::root);
        let depth = key.parts().len();
        let named = |found: &Explained| {
            found.key.prefix(depth) == key || (depth == 1 && found.key.last() == key.last())
        };
        found.retain(named);
        if depth == 0 || found.is_empty() {
            let resolved = vintage_config::Layers::new().resolve()?;
            return Err(unknown(text, &resolved).into());
        }
    }
    if context.output.is_json() {
        let of = |found: &Explained| {
            let default = found.value.as_ref().filter(|_| !found.is_example);
            let example = found.value.as_ref().filter(|_| found.is_example);
            let key = found.key.to_string();
            json!({"key": key, "default": default, "example": example, "text": found.text})
        };
        let all: Vec<_> = found.iter().map(of).collect();
        return context.output.print(&all, |_| String::new());
    }
    let mut text = String::new();
    for found in &found {
        let _infallible = match &found.value {
            None => write!(text, "[{}]", found.key),
            Some(value) if found.is_example => write!(text, "{} (unset; {value})", found.key),
            Some(value) => write!(text, "{} = {value}", found.key),
        };
        if !found.text.is_empty() {
            let _infallible = write!(text, "\n    {}", found.text);
        }
        text.push('\n');
    }
    print_text(&text)
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
