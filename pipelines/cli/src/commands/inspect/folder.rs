//! Shows a run's folder in a few lines.

use std::path::Path;
use vintage_human::grouped;
use vintage_settings::RunConfig;

use anyhow::Result;
use serde::Serialize;
use vintage_archive::Reader;
use vintage_control::{EvaluationResult, PolicyVersion, UpdateResult};
use vintage_flow::{archive_in, config_file, followers, open_store};
use vintage_store::{Records, Store, Weights};

use super::Context;
use crate::output::{bytes, columns};

/// Contents of a run's folder.
#[derive(Debug, Default, Serialize)]
struct Holding {
    run: String,
    learner: String,
    policy: String,
    algorithm: String,
    /// Updates the run is to have.
    steps: u64,
    /// Updates with a result.
    updates: u64,
    /// Versions whose weights are kept.
    versions: Vec<PolicyVersion>,
    checkpoints: Vec<PolicyVersion>,
    evaluations: u64,
    /// Sampled accuracy in the last evaluation.
    sampled_accuracy: Option<f64>,
    /// Mean reward of the last update.
    reward: Option<f64>,
    followers: Vec<Follower>,
    archive: Vec<Archived>,
}

/// Learner beside the run's own.
#[derive(Debug, Serialize)]
struct Follower {
    learner: String,
    policy: String,
    algorithm: String,
    /// Learner whose plans it follows, if it does.
    follows: Option<String>,
    /// Updates it is to have.
    steps: u64,
    /// Updates with a result.
    updates: u64,
}

/// Contents of the archive of a topic.
#[derive(Debug, Serialize)]
struct Archived {
    topic: String,
    lives: u64,
    files: u64,
    messages: u64,
    rows: u64,
    quarantined: u64,
    bytes: u64,
}

/// Prints the contents of a run's folder.
pub(super) async fn run(path: &Path, context: &Context) -> Result<()> {
    let config = vintage_config::read(&config_file(path))?;
    let store = open_store(path)?;
    let (learner, policy) = (&config.learner.name, &config.learner.policy);
    let results = numbers(&store.list(&format!("results/{learner}")).await?);
    let evaluations = numbers(&store.list(&format!("evaluations/{policy}")).await?);
    let result: Option<UpdateResult> = match results.last() {
        Some(last) => {
            store
                .get_json(&format!("results/{learner}/{last}.json"))
                .await?
        }
        None => None,
    };
    let evaluation: Option<EvaluationResult> = match evaluations.last() {
        Some(last) => {
            store
                .get_json(&format!("evaluations/{policy}/{last}.json"))
                .await?
        }
        None => None,
    };
    let holding = Holding {
        run: config.run.to_string(),
        learner: learner.to_string(),
        policy: policy.to_string(),
        algorithm: rule(&config)?,
        steps: config.learner.steps,
        updates: results.len() as u64,
        versions: Weights::new(store.clone(), policy.clone())
            .versions()
            .await?,
        checkpoints: Records::new(store.clone(), learner.clone())
            .checkpoints()
            .await?,
        evaluations: evaluations.len() as u64,
        sampled_accuracy: evaluation.map(|evaluation| evaluation.sampled_accuracy),
        reward: result.map(|result| result.reward),
        followers: followers_of(path, &store).await?,
        archive: archived(&archive_in(&store)).await?,
    };
    context.output.print(&holding, text)
}

/// Returns the name of the algorithm.
fn rule(config: &RunConfig) -> Result<String> {
    let name = serde_json::to_value(config.algorithm)?;
    Ok(name.as_str().unwrap_or_default().to_owned())
}

async fn followers_of(path: &Path, store: &Store) -> Result<Vec<Follower>> {
    let mut found = Vec::new();
    for file in followers(path)? {
        let config = vintage_config::read(&file)?;
        let learner = &config.learner;
        let results = store.list(&format!("results/{}", learner.name)).await?;
        found.push(Follower {
            learner: learner.name.to_string(),
            policy: learner.policy.to_string(),
            algorithm: rule(&config)?,
            follows: learner.follow_plans.as_ref().map(ToString::to_string),
            steps: learner.steps,
            updates: results.len() as u64,
        });
    }
    Ok(found)
}

/// Returns the numbers by which files are named, ascending.
fn numbers(paths: &[String]) -> Vec<u64> {
    let number = |path: &String| {
        let name = path.rsplit('/').next()?;
        name.strip_suffix(".json")?.parse().ok()
    };
    let mut numbers: Vec<_> = paths.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

async fn archived(store: &Store) -> Result<Vec<Archived>> {
    let mut found = Vec::new();
    for topic in Reader::topics(store).await? {
        let reader = Reader::new(store.clone(), &topic);
        let incarnations = reader.incarnations().await?;
        let mut of = Archived {
            lives: incarnations.len() as u64,
            topic,
            files: 0,
            messages: 0,
            rows: 0,
            quarantined: 0,
            bytes: 0,
        };
        for incarnation in incarnations {
            for partition in reader.partitions(incarnation).await? {
                for file in reader.chain(incarnation, partition).await? {
                    of.files += 1;
                    of.messages += file.footer.messages;
                    of.rows += file.footer.rows;
                    of.quarantined += file.footer.quarantined;
                    of.bytes += file.bytes;
                }
            }
        }
        found.push(of);
    }
    Ok(found)
}

fn text(holding: &Holding) -> String {
    let ends = |versions: &[PolicyVersion]| match versions {
        [] => "none".to_owned(),
        [one] => format!("version {one}"),
        [first, .., last] => {
            format!(
                "{} from version {first} to {last}",
                grouped(versions.len() as u64)
            )
        }
    };
    let mut lines = vec![
        (
            "run",
            format!("{}, learner {}", holding.run, holding.learner),
        ),
        ("algorithm", holding.algorithm.clone()),
        (
            "updates",
            format!("{} of {}", grouped(holding.updates), grouped(holding.steps)),
        ),
        ("weights", ends(&holding.versions)),
        ("checkpoints", ends(&holding.checkpoints)),
        ("evaluations", grouped(holding.evaluations)),
    ];
    let accuracy = holding
        .sampled_accuracy
        .map(|share| format!("{:.1} %", 100.0 * share));
    lines.extend(accuracy.map(|accuracy| ("accuracy", accuracy)));
    lines.extend(
        holding
            .reward
            .map(|reward| ("reward", format!("{reward:.3}"))),
    );
    for of in &holding.followers {
        let batches = of.follows.as_ref().map_or_else(String::new, |leader| {
            format!(", on the batches of {leader}")
        });
        lines.push((
            "follower",
            format!(
                "{}: {}{batches}, {} of {} updates",
                of.learner,
                of.algorithm,
                grouped(of.updates),
                grouped(of.steps),
            ),
        ));
    }
    for of in &holding.archive {
        lines.push((
            "archive",
            format!(
                "{}: {} incarnations, {} files, {} messages, {} rows, {} quarantined, {}",
                of.topic,
                of.lives,
                grouped(of.files),
                grouped(of.messages),
                grouped(of.rows),
                of.quarantined,
                bytes(of.bytes),
            ),
        ));
    }
    columns(lines)
}
