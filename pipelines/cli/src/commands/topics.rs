//! `vintage topics`: lists and creates a run's topics.
use std::{collections::BTreeMap, path::Path};
use vintage_human::grouped;
use vintage_settings::RunConfig;

use anyhow::Result;
use serde::Serialize;
use vintage_bus::Bus;
use vintage_flow::{broker::Broker, config_file};

use super::Context;
use crate::{
    args::{ConfigArgs, TopicsCommand},
    exit::{CommandOutcome, Usage},
    output::{print_text, table},
};

/// Runs `vintage topics list` or `vintage topics apply`.
pub(crate) async fn topics(command: &TopicsCommand, context: &Context) -> Result<CommandOutcome> {
    match command {
        TopicsCommand::List { out, config } => {
            let config = of_run(config, out.as_deref())?;
            let broker = Broker::open(&config, out.as_deref()).await?;
            let listed = list(&broker, &config, context).await;
            broker.close_after(listed).await?;
        }
        TopicsCommand::Apply {
            dry_run,
            out,
            config,
        } => {
            let config = resolve(config, out.as_deref())?;
            let broker = Broker::open(&config, out.as_deref()).await?;
            let applied = apply(&broker, &config, *dry_run, context).await;
            broker.close_after(applied).await?;
        }
    }
    Ok(CommandOutcome::Done)
}

/// Resolves the settings, based on those of the run in `out` if there is one.
pub(super) fn resolve(config: &ConfigArgs, out: Option<&Path>) -> Result<RunConfig> {
    let recorded = out.map(config_file);
    Ok(config.resolve(recorded.as_deref(), &[])?.config)
}

/// Resolves the settings based on those of the run in `out`; fails if `out` is given and is not a
/// run's folder.
pub(super) fn of_run(config: &ConfigArgs, out: Option<&Path>) -> Result<RunConfig> {
    if let Some(out) = out.filter(|out| !config_file(out).is_file()) {
        let what = format!(
            "{} is no run's folder: it has no config.toml",
            out.display()
        );
        return Err(Usage::new(what).hint("name the --out of a run").into());
    }
    resolve(config, out)
}

/// Topic as the broker has it.
#[derive(Serialize)]
struct Found {
    topic: String,
    exists: bool,
    partitions: usize,
    /// Offsets between the oldest and the next record, summed over partitions.
    records: i64,
    /// Broker's settings that decide how long records are kept.
    settings: BTreeMap<&'static str, String>,
    /// Differences from what a run needs.
    concerns: Vec<String>,
}

async fn list(broker: &Broker, config: &RunConfig, context: &Context) -> Result<()> {
    let mut found = Vec::new();
    for spec in broker.specs(config) {
        let mut topic = look(broker.bus(), spec.name.clone()).await?;
        if topic.exists {
            let checkup = broker.bus().check_up(&spec).await?;
            topic.settings = checkup.settings.into_iter().collect();
            let concerns = checkup.concerns.iter().map(ToString::to_string);
            topic.concerns = concerns.chain(checkup.unread).collect();
        }
        found.push(topic);
    }
    if !found.iter().any(|topic| topic.exists) {
        return Err(no_topic(broker.bus(), config).await?.into());
    }
    if context.output.is_json() {
        return context.output.print(&found, |_| String::new());
    }
    for concern in found.iter().flat_map(|topic| &topic.concerns) {
        tracing::warn!("{concern}");
    }
    let rows: Vec<_> = found
        .into_iter()
        .map(|topic| {
            let number = |number: u64| {
                if topic.exists {
                    grouped(number)
                } else {
                    "-".to_owned()
                }
            };
            let (partitions, records) = (topic.partitions as u64, topic.records.max(0) as u64);
            let settings = topic.settings.iter();
            let settings: Vec<_> = settings.map(|(k, v)| format!("{k}={v}")).collect();
            vec![
                topic.topic,
                number(partitions),
                number(records),
                settings.join(" "),
            ]
        })
        .collect();
    let head = ["topic", "partitions", "records", "settings"];
    print_text(&table(&head, &rows))
}

/// Returns the error for a broker without any topic of the run; its hint names the topics that
/// exist.
async fn no_topic(bus: &Bus, config: &RunConfig) -> Result<Usage> {
    let there = bus.topics().await?;
    let rollouts = config.topic_names().rollouts();
    let what = format!(
        "{} has no topic of run {} in namespace {} ({rollouts})",
        bus.bootstrap(),
        config.run,
        config.namespace
    );
    let hint = if there.is_empty() {
        "it has no topic at all; a run makes its own, and so does `vintage topics apply`".to_owned()
    } else {
        format!(
            "--set run=NAME, or --out DIR, says which run; there are the topics {}",
            there.join(", ")
        )
    };
    Ok(Usage::new(what).hint(hint))
}

async fn look(bus: &Bus, topic: String) -> Result<Found> {
    match bus.watermarks(&topic).await {
        Ok(marks) => Ok(Found {
            topic,
            exists: true,
            partitions: marks.len(),
            records: marks.iter().map(|(_, low, high)| high.0 - low.0).sum(),
            settings: BTreeMap::new(),
            concerns: Vec::new(),
        }),
        Err(vintage_bus::Error::NoSuchTopic { .. }) => Ok(Found {
            topic,
            exists: false,
            partitions: 0,
            records: 0,
            settings: BTreeMap::new(),
            concerns: Vec::new(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// Topic as a run needs it.
#[derive(Serialize)]
struct Wanted<'a> {
    topic: &'a str,
    partitions: i32,
    replication: i32,
    config: &'a BTreeMap<String, String>,
    /// State of the topic: `exists`, `missing` or `created`.
    state: &'static str,
}

async fn apply(
    broker: &Broker,
    config: &RunConfig,
    dry_run: bool,
    context: &Context,
) -> Result<()> {
    let bus = broker.bus();
    let specs = broker.specs(config);
    let mut wanted = Vec::new();
    for spec in &specs {
        let exists = look(bus, spec.name.clone()).await?.exists;
        wanted.push(Wanted {
            topic: &spec.name,
            partitions: spec.partitions,
            replication: spec.replication,
            config: &spec.config,
            state: match (exists, dry_run) {
                (true, _) => "exists",
                (false, true) => "missing",
                (false, false) => "created",
            },
        });
    }
    if !dry_run {
        bus.ensure_topics(&specs).await?;
    }
    if context.output.is_json() {
        return context.output.print(&wanted, |_| String::new());
    }
    let rows: Vec<_> = wanted
        .iter()
        .map(|topic| {
            let settings: Vec<_> = topic
                .config
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect();
            vec![
                topic.topic.to_owned(),
                topic.state.to_owned(),
                topic.partitions.to_string(),
                topic.replication.to_string(),
                settings.join(" "),
            ]
        })
        .collect();
    let head = ["topic", "state", "partitions", "replication", "settings"];
    print_text(&table(&head, &rows))
}
