//! Checks of the broker, and of the run's topics on it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};
use vintage_settings::RunConfig;

use vintage_bus::{Bus, Checkup, Replicas, Severity, TopicSpec, TopicTable};

use super::{Check, existing};
use crate::{broker::Broker, error::Result};

/// Time within which a reachable broker answers.
const ANSWER: Duration = Duration::from_secs(10);

pub(super) async fn look_at(config: &RunConfig, out: &Path) -> Vec<Check> {
    let name = "broker";
    if config.broker == "embedded" {
        return vec![Check::note(
            name,
            "embedded: its log dies with the process",
            "what is archived is safe; use a real Kafka to keep the rest",
        )];
    }
    let advice = match config.broker.as_str() {
        "local" => "install what is missing, or name a broker with --broker HOST:PORT",
        _ => "start one with `vintage broker up`, or correct --broker",
    };
    match reach(config, out).await {
        Ok(checks) => checks,
        Err(error) => vec![Check::bad(name, error.to_string(), advice)],
    }
}

/// Checks the configured broker. A local one is started for the check: on the run's data if its
/// folder has any, else in a temporary folder.
async fn reach(config: &RunConfig, out: &Path) -> Result<Vec<Check>> {
    if config.broker != "local" || out.join("kafka").is_dir() {
        return look(config, out).await;
    }
    let folder = existing(out).join(format!(".vintage-doctor-kafka-{}", std::process::id()));
    let checks = look(config, &folder).await;
    if let Err(error) = fs::remove_dir_all(&folder) {
        tracing::warn!("removing {}: {error}", folder.display());
    }
    checks
}

async fn look(config: &RunConfig, folder: &Path) -> Result<Vec<Check>> {
    let begun = Instant::now();
    let broker = Broker::open(config, Some(folder)).await?;
    let checks = async {
        let brokers = broker.bus().brokers(ANSWER).await?;
        let found = format!(
            "{} answers after {:.1} s, {brokers} node{}",
            config.broker,
            begun.elapsed().as_secs_f64(),
            if brokers == 1 { "" } else { "s" }
        );
        let mut checks = vec![Check::good("broker", found)];
        let largest = TopicTable::builtin().max_message_bytes();
        for limit in broker.bus().node_limits(largest).await? {
            let advice = "large messages, and who starts late, may be in trouble without";
            checks.push(Check::note("broker", limit, advice));
        }
        for spec in broker.specs(config) {
            checks.extend(topic(broker.bus(), &spec, brokers).await?);
        }
        Ok(checks)
    };
    let checks = checks.await;
    broker.close_after(checks).await
}

/// Checks a topic: replicas, partitions and settings against what a run needs.
async fn topic(bus: &Bus, spec: &TopicSpec, brokers: usize) -> Result<Vec<Check>> {
    let (name, topic) = ("topic", &spec.name);
    let replicas = match bus.replicas(topic).await {
        Ok(replicas) => replicas,
        Err(vintage_bus::Error::NoSuchTopic { .. }) if spec.replication as usize > brokers => {
            let found = format!("{topic} wants {} copies", spec.replication);
            let advice = "set topics.replication to the number of brokers at most";
            return Ok(vec![Check::bad(name, found, advice)]);
        }
        Err(vintage_bus::Error::NoSuchTopic { .. }) => {
            let found = format!("{topic} is not there yet");
            let advice = "a run creates it, or `vintage topics apply`";
            return Ok(vec![Check::note(name, found, advice)]);
        }
        Err(error) => return Err(error.into()),
    };
    let checkup = bus.check_up(spec).await?;
    let mut checks = vec![copies(topic, &replicas, &checkup, brokers)];
    if checkup.partitions < spec.partitions as usize {
        let found = format!(
            "{topic} has {} partitions, and topics.partitions is {}",
            checkup.partitions, spec.partitions
        );
        let advice =
            "set topics.partitions to what it has, or let it grow with kafka-topics.sh --alter";
        checks.push(Check::bad(name, found, advice));
    }
    for concern in checkup.concerns {
        let found = format!(
            "{topic} has {}={}, not {}: {}",
            concern.setting, concern.found, concern.expected, concern.because
        );
        checks.push(match concern.weight {
            Severity::Refused => Check::bad(name, found, &concern.command),
            Severity::Warned | Severity::Noted => Check::note(name, found, &concern.command),
        });
    }
    if let Some(why) = checkup.unread {
        let advice = "whether it keeps every record was not checked";
        checks.push(Check::note(name, format!("{topic}: {why}"), advice));
    }
    for withheld in bus.withheld(topic).await? {
        let advice = "readers wait there until the transaction ends";
        checks.push(Check::note(name, format!("{topic} {withheld}"), advice));
    }
    Ok(checks)
}

fn copies(topic: &str, replicas: &[Replicas], checkup: &Checkup, brokers: usize) -> Check {
    let name = "topic";
    let copies = replicas.iter().map(|of| of.brokers.len()).min();
    let in_sync = replicas.iter().map(|of| of.in_sync.len()).min();
    let (copies, in_sync) = (copies.unwrap_or(0), in_sync.unwrap_or(0));
    let settings = checkup.settings.iter();
    let settings: Vec<_> = settings
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let settings = settings.join(" ");
    let found = format!(
        "{topic} has {} partitions, {copies} cop{}, {in_sync} in sync{}{settings}",
        replicas.len(),
        if copies == 1 { "y" } else { "ies" },
        if settings.is_empty() { "" } else { "; " },
    );
    if in_sync < copies {
        Check::note(name, found, "a broker is down or behind: bring it back")
    } else if copies == 1 && brokers > 1 {
        let advice = "one lost disk loses it: create it with topics.replication=3";
        Check::note(name, found, advice)
    } else {
        Check::good(name, found)
    }
}
