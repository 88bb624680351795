//! `vintage rollout|learn|archive`: one role as a process of its own.

use anyhow::Result;
use serde_json::{Value, json};
use vintage_config::Resolved;
use vintage_flow::{
    EndNotice, config_file,
    roles::{self, SettingsOf},
};
use vintage_settings::RunConfig;

use super::Context;
use crate::{
    allocator,
    args::{ArchiveArgs, LearnArgs, RoleArgs, RolloutArgs},
    exit::CommandOutcome,
    output::columns,
};

/// Waits for the settings of the run's lead and returns them under the role's own flags. For roles
/// other than the lead.
async fn settings(args: &RoleArgs, context: &Context) -> Result<Resolved<RunConfig>> {
    let recorded = config_file(&args.out);
    let own = args.config.resolve(Some(&recorded), &[])?;
    let (events, shown) = context.progress(own.config.learner.steps);
    let of = roles::await_settings(&own, &args.out, &context.signals.stop, &events).await;
    drop(events);
    shown.await?;
    Ok(match of? {
        SettingsOf::Lead => args.config.resolve(Some(&recorded), &[])?,
        SettingsOf::Role => own,
    })
}

/// Runs `vintage rollout`; a request to stop is its ordinary end.
pub(crate) async fn rollout(args: &RolloutArgs, context: &Context) -> Result<CommandOutcome> {
    let (accept, args) = (&args.accept, &args.role);
    let resolved = settings(args, context).await?;
    let (events, shown) = context.progress(resolved.config.learner.steps);
    let stop = &context.signals.stop;
    let produced = roles::rollout(&resolved, &args.out, accept, stop, &events).await;
    drop(events);
    shown.await?;
    let (produced, account) = produced?;
    print(
        context,
        &json!({
            "producer": produced.producer,
            "groups": produced.groups,
            "rows": produced.rows,
            "tokens": produced.tokens,
            "failed": produced.failed,
            "sampling_seconds": produced.sampling_seconds,
            "loading_seconds": produced.loading_seconds,
            "waiting_seconds": produced.waiting_seconds,
        }),
        &account,
    )?;
    Ok(CommandOutcome::Done)
}

/// Runs `vintage learn`.
pub(crate) async fn learn(args: &LearnArgs, context: &Context) -> Result<CommandOutcome> {
    let name = args.name.as_ref();
    let follows = args.follow_plans.as_ref();
    let flags = [
        (
            "--steps",
            "learner.steps",
            args.steps.map(|steps| steps.to_string()),
        ),
        ("--start", "learner.start", args.start.clone()),
        (
            "--follow-plans",
            "learner.follow_plans",
            follows.map(ToString::to_string),
        ),
    ];
    if let Some(name) = name {
        let (events, shown) = context.progress(0);
        let run = roles::await_run(&args.role.out, name, &context.signals.stop, &events).await;
        drop(events);
        shown.await?;
        run?;
    }
    let base = roles::learner_base(&args.role.out, name, follows)?;
    let resolved = args.role.config.resolve_over(base, &flags)?;
    if resolved.config.model.path.is_some() {
        allocator::give_back_soon();
    }
    let (events, shown) = context.progress(resolved.config.learner.steps);
    let (out, stop) = (&args.role.out, &context.signals.stop);
    let learned = roles::learn(&resolved, out, &args.accept, stop, &events).await;
    drop(events);
    shown.await?;
    let (learned, account) = learned?;
    print(
        context,
        &json!({
            "version": learned.version,
            "groups_trained": learned.groups_trained,
            "groups_rejected": learned.groups_rejected,
            "finished": learned.finished,
            "ended": learned.ended,
        }),
        &account,
    )?;
    Ok(match context.signals.received() {
        Some(signal) if !learned.finished => CommandOutcome::Interrupted(signal),
        _ => CommandOutcome::Done,
    })
}

/// Runs `vintage archive`; a request to stop is its ordinary end.
pub(crate) async fn archive(args: &ArchiveArgs, context: &Context) -> Result<CommandOutcome> {
    let resolved = settings(&args.role, context).await?;
    let (events, shown) = context.progress(0);
    let (out, stop) = (&args.role.out, &context.signals.stop);
    let archived = roles::archive(&resolved, out, args.accept_gap, stop, &events).await;
    drop(events);
    shown.await?;
    let (archived, account) = archived?;
    print(
        context,
        &json!({
            "files": archived.files,
            "messages": archived.messages,
            "rows": archived.rows,
            "quarantined": archived.quarantined,
            "bytes": archived.bytes,
            "races_lost": archived.races_lost,
            "blocked": archived.blocked,
        }),
        &account,
    )?;
    Ok(CommandOutcome::Done)
}

/// Prints what the role did, and what it waited for in the end.
fn print(context: &Context, did: &Value, account: &EndNotice) -> Result<()> {
    let mut summary = did.clone();
    if let Some(fields) = summary.as_object_mut() {
        let said = [
            ("standstill", json!(account.standstill)),
            ("warnings", json!(account.warnings)),
        ];
        // For people, these are printed only if there is something to say.
        let of_text = |value: &Value| !(value.is_null() || *value == json!([]));
        let said = said
            .into_iter()
            .filter(|(_, value)| context.output.is_json() || of_text(value));
        fields.extend(said.map(|(name, value)| (name.to_owned(), value)));
    }
    context.output.print(&summary, |summary| {
        let fields = summary.as_object().into_iter().flatten();
        columns(fields.map(|(name, value)| (name.as_str(), plain(value))))
    })
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => {
            let lines: Vec<_> = lines.iter().map(plain).collect();
            lines.join("; ")
        }
        Value::Object(map) if map.is_empty() => "none".to_owned(),
        Value::Object(map) => {
            let pairs: Vec<_> = map
                .iter()
                .map(|(key, value)| format!("{key} {value}"))
                .collect();
            pairs.join(", ")
        }
        other => other.to_string(),
    }
}
