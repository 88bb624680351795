//! `vintage audit`: accounts for every group of a run.

use std::fmt::Write as _;
use vintage_human::grouped;

use anyhow::Result;
use vintage_audit::{Answer, Audit, Counts, GroupAccount, Question};
use vintage_control::UpdateNumber;
use vintage_flow::audit::{AuditRequest, audit as run};

use super::{Context, topics::resolve};
use crate::{
    args::AuditArgs,
    exit::CommandOutcome,
    output::{columns, table},
};

/// Runs `vintage audit [DIR]`.
pub(crate) async fn audit(args: &AuditArgs, context: &Context) -> Result<CommandOutcome> {
    let update = args
        .update
        .map(|update| Question::Update(UpdateNumber(update)));
    let rollout = args.rollout.clone().map(Question::Rollout);
    let scope = AuditRequest {
        config: resolve(&args.config, args.folder.as_deref())?,
        folder: args.folder.clone(),
        learner: args.name.clone(),
        offline: args.offline,
        deep: args.deep,
        question: update.or(rollout),
    };
    let audited = run(&scope).await.map_err(|error| {
        let broker = matches!(error, vintage_flow::Error::Bus(_));
        let error = anyhow::Error::new(error);
        if broker {
            error.context("no log to audit (--offline does without: journals, archive and records)")
        } else {
            error
        }
    })?;
    let asked = scope.question.is_some();
    let answered = audited.answers.iter().any(Answer::is_known);
    context.output.print(&audited, |audited| {
        if asked {
            answers(audited)
        } else {
            text(audited)
        }
    })?;
    Ok(if audited.holds && (answered || !asked) {
        CommandOutcome::Done
    } else {
        CommandOutcome::Negative
    })
}

fn text(audited: &Audit) -> String {
    let mut text = String::new();
    for (learner, account) in &audited.learners {
        let counts = &account.total;
        let mut lines = vec![
            (
                "learner",
                format!("{learner}, {} updates", grouped(account.updates)),
            ),
            ("groups", identity(counts)),
            ("rejected", reasons(counts)),
            (
                "archive",
                format!(
                    "{} groups archived; {} messages quarantined, {} duplicated",
                    grouped(counts.archived),
                    grouped(counts.quarantined),
                    grouped(counts.duplicated)
                ),
            ),
        ];
        if account.reused > 0 {
            let uses = grouped(account.reused);
            lines.insert(
                3,
                ("reused", format!("{uses} times a group trained before")),
            );
        }
        text += &columns(lines);
        text += "\n";
        text += &partitions(account);
        text += "\n";
    }
    text += &lines(audited);
    text
}

fn identity(counts: &Counts) -> String {
    let mut line = format!(
        "{} produced {} {} trained + {} rejected + {} in flight + {} lost",
        grouped(counts.produced),
        if counts.balances() { "=" } else { "≠" },
        grouped(counts.trained),
        grouped(counts.rejections()),
        grouped(counts.in_flight),
        grouped(counts.lost),
    );
    for (more, what) in [
        (counts.before_start, "before its start"),
        (counts.expired, "expired"),
    ] {
        if more > 0 {
            let _ = write!(line, " + {} {what}", grouped(more));
        }
    }
    line
}

fn reasons(counts: &Counts) -> String {
    let reasons = counts.rejected.iter();
    let reasons: Vec<_> = reasons
        .map(|(reason, groups)| format!("{reason} {}", grouped(*groups)))
        .collect();
    if reasons.is_empty() {
        "none".to_owned()
    } else {
        reasons.join(", ")
    }
}

fn partitions(account: &GroupAccount) -> String {
    let head = [
        "partition",
        "produced",
        "archived",
        "quarantined",
        "trained",
        "rejected",
        "in flight",
        "lost",
        "duplicated",
    ];
    let rows = account.partitions.iter().map(|(partition, counts)| {
        let numbers = [
            counts.produced,
            counts.archived,
            counts.quarantined,
            counts.trained,
            counts.rejections(),
            counts.in_flight,
            counts.lost,
            counts.duplicated,
        ];
        let numbers = numbers.map(grouped);
        [partition.clone()].into_iter().chain(numbers).collect()
    });
    table(&head, &rows.collect::<Vec<Vec<String>>>())
}

/// Formats the notes, the breaches and the verdict.
fn lines(audited: &Audit) -> String {
    let mut text = String::new();
    for note in &audited.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for finding in &audited.findings {
        let _ = writeln!(text, "breach: {finding}");
    }
    text += if audited.holds {
        "The books hold.\n"
    } else {
        "The books do not hold.\n"
    };
    text
}

fn answers(audited: &Audit) -> String {
    let mut text = String::new();
    for answer in &audited.answers {
        match answer {
            Answer::Update {
                learner,
                update,
                groups,
                rejections,
            } => {
                let _ = writeln!(
                    text,
                    "update {update} of {learner} trained {} groups",
                    groups.len()
                );
                let rows = groups.iter().map(|group| {
                    let at = group.records.first();
                    let source = group.source.clone().unwrap_or_default();
                    vec![
                        format!("{}/{}", group.producer, group.producer_seq),
                        group.group.clone(),
                        group.rows.to_string(),
                        at.map_or_else(String::new, |at| at.partition.to_string()),
                        at.map_or_else(String::new, |at| at.offset.to_string()),
                        source,
                    ]
                });
                let head = ["rollout", "group", "rows", "partition", "offset", "from"];
                text += &table(&head, &rows.collect::<Vec<_>>());
                for refused in rejections {
                    let number = refused.producer.as_deref().zip(refused.producer_seq);
                    let called = match (number, refused.records.first()) {
                        (Some((producer, seq)), _) => format!("{producer}/{seq}"),
                        (None, Some(record)) => format!("the record at {record}"),
                        (None, None) => "a record".to_owned(),
                    };
                    let (reason, detail) = (refused.reason.as_str(), &refused.detail);
                    let _ = writeln!(text, "its plan rejects {called}: {reason}, {detail}");
                }
            }
            Answer::Rollout {
                learner,
                rollout,
                fate,
                update,
                reason,
                detail,
                record,
            } => {
                let _ = write!(text, "{rollout} by {learner}: {}", fate.replace('_', " "));
                if let (Some(reason), Some(update)) = (reason, update) {
                    let _ = write!(text, " ({reason}, plan {update})");
                }
                let _ = writeln!(text, ": {detail}");
                if let Some(record) = record {
                    let _ = writeln!(text, "  it is at {record}");
                }
            }
        }
    }
    if audited.answers.is_empty() {
        text += "its plan is missing\n";
    }
    if !audited.holds {
        text += &lines(audited);
    }
    text
}
