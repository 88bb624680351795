//! `vintage rollout|learn|archive`: one role as a process of its own.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use vintage_config::Resolved;
use vintage_flow::{
    EndNotice, config_file,
    roles::{self, SettingsOf},
};
use vintage_human::{grouped, size};
use vintage_settings::RunConfig;

use super::Context;
use crate::{
    allocator,
    args::{ArchiveArgs, LearnArgs, RoleArgs, RolloutArgs},
    exit::CommandOutcome,
    output::{columns, reasons},
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
        vec![
            ("producer", produced.producer.clone()),
            (
                "published",
                format!(
                    "{} groups, {} rollouts, {} tokens",
                    grouped(produced.groups),
                    grouped(produced.rows),
                    grouped(produced.tokens)
                ),
            ),
            ("failed", counts(["group", "groups"], &produced.failed)),
            (
                "time",
                format!(
                    "{:.1} s sampling, {:.1} s loading weights, {:.1} s without work",
                    produced.sampling_seconds, produced.loading_seconds, produced.waiting_seconds
                ),
            ),
        ],
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
    let left = match (learned.finished, learned.ended) {
        (true, _) => String::new(),
        (false, true) => ", and nothing more to train on".to_owned(),
        (false, false) => ", not finished: the same command goes on".to_owned(),
    };
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
        vec![
            ("updates", format!("{}{left}", grouped(learned.version.0))),
            (
                "groups",
                format!(
                    "{} trained, {} rejected",
                    grouped(learned.groups_trained),
                    grouped(learned.groups_rejected)
                ),
            ),
            (
                "next",
                format!("`vintage report {0}`, `vintage audit {0}`", out.display()),
            ),
        ],
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
        vec![
            (
                "archived",
                format!(
                    "{} rollouts of {} records in {} files, {}",
                    grouped(archived.rows),
                    grouped(archived.messages),
                    grouped(archived.files),
                    size(archived.bytes)
                ),
            ),
            (
                "set aside",
                format!("{} unreadable records", grouped(archived.quarantined)),
            ),
            (
                "store",
                counts(["failed try", "failed tries"], &archived.blocked),
            ),
        ],
    )?;
    Ok(CommandOutcome::Done)
}

/// Prints what the role did, and what it waited for in the end: `did` for programs, `lines` for people.
fn print(
    context: &Context,
    did: &Value,
    account: &EndNotice,
    mut lines: Vec<(&'static str, String)>,
) -> Result<()> {
    let mut summary = did.clone();
    if let Some(fields) = summary.as_object_mut() {
        fields.insert("standstill".to_owned(), json!(account.standstill));
        fields.insert("warnings".to_owned(), json!(account.warnings));
    }
    let waited = account.standstill.iter().map(|why| ("stood still", why));
    let warned = account.warnings.iter().map(|why| ("warning", why));
    lines.extend(waited.chain(warned).map(|(name, why)| (name, why.clone())));
    context.output.print(&summary, |_| columns(lines))
}

/// Formats counts by reason, such as `3 groups (timeout 2, died 1)`.
fn counts([one, many]: [&str; 2], by: &BTreeMap<&'static str, u64>) -> String {
    let all: u64 = by.values().sum();
    let what = if all == 1 { one } else { many };
    let reasons = reasons(by.iter().map(|(why, count)| (*why, *count)));
    format!("{} {what}{reasons}", grouped(all))
}
