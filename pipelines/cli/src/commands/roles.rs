//! `vintage rollout|learn|archive`: one role as a process of its own.

use anyhow::Result;
use serde_json::{Value, json};
use vintage_flow::roles;

use super::Context;
use crate::{
    allocator,
    args::{ArchiveArgs, LearnArgs, RoleArgs, RolloutArgs},
    exit::Outcome,
    output::columns,
};

fn resolve(
    args: &RoleArgs,
    flags: &[(&'static str, &str, Option<String>)],
) -> Result<vintage_flow::config::Resolved<vintage_flow::config::RunConfig>> {
    Ok(args
        .config
        .resolve(Some(&args.out.join("config.toml")), flags)?)
}

/// `vintage rollout`: being told to stop is its ordinary end.
pub(crate) async fn rollout(args: &RolloutArgs, context: &Context) -> Result<Outcome> {
    let args = &args.role;
    let resolved = resolve(args, &[])?;
    let (events, shown) = context.progress(resolved.config.learner.steps);
    let produced = roles::rollout(&resolved, &args.out, &context.signals.stop, &events).await;
    drop(events);
    shown.await?;
    let produced = produced?;
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
    )?;
    Ok(Outcome::Done)
}

/// `vintage learn`
pub(crate) async fn learn(args: &LearnArgs, context: &Context) -> Result<Outcome> {
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
    let base = roles::learner_base(&args.role.out, name, follows)?;
    let resolved = args.role.config.resolve_over(base, &flags)?;
    if resolved.config.model.path.is_some() {
        allocator::give_back_soon();
    }
    let (events, shown) = context.progress(resolved.config.learner.steps);
    let learned = roles::learn(&resolved, &args.role.out, &context.signals.stop, &events).await;
    drop(events);
    shown.await?;
    let learned = learned?;
    print(
        context,
        &json!({
            "version": learned.version,
            "groups_trained": learned.groups_trained,
            "groups_rejected": learned.groups_rejected,
            "finished": learned.finished,
            "ended": learned.ended,
        }),
    )?;
    Ok(match context.signals.received() {
        Some(signal) if !learned.finished => Outcome::Interrupted(signal),
        _ => Outcome::Done,
    })
}

/// `vintage archive`: being told to stop is its ordinary end.
pub(crate) async fn archive(args: &ArchiveArgs, context: &Context) -> Result<Outcome> {
    let resolved = resolve(&args.role, &[])?;
    let stop = &context.signals.stop;
    let archived = roles::archive(&resolved, &args.role.out, args.accept_gap, stop).await?;
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
    )?;
    Ok(Outcome::Done)
}

fn print(context: &Context, summary: &Value) -> Result<()> {
    context.output.print(summary, |summary| {
        let fields = summary.as_object().into_iter().flatten();
        columns(fields.map(|(name, value)| (name.as_str(), plain(value))))
    })
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
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
