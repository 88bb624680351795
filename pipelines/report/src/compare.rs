//! Several learners of one run side by side: a table and curves.

use std::{collections::BTreeSet, fmt::Write as _};

use serde::Serialize;
use vintage_control::{Name, Plan, PolicyVersion, Sha256, UpdateResult};
use vintage_human::grouped;
use vintage_store::{Records, Store};

use crate::error::Result;
use crate::{
    chart::{Unit, number},
    figures::{Age, Figure, curves},
    html::Escaped,
    ink::Ink,
    record::numbered,
    series::finite,
};

/// Inks a chart has for learners; the table has room for all of them.
const INKS: [Ink; 4] = [Ink::First, Ink::Second, Ink::Third, Ink::Fourth];
/// Updates the means of the table are over, the last ones.
const RECENT: usize = 20;

/// What a learner of the run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contender {
    /// Its name.
    pub learner: Name,
    /// The lineage it trains.
    pub policy: Name,
    /// Its loss.
    pub algorithm: String,
    /// Whose plans it follows; `None` if it plans itself.
    pub follows: Option<Name>,
    /// Where it began, if not with the first record.
    pub start: Option<String>,
    /// Updates done.
    pub updates: u64,
    /// Groups trained.
    pub groups: u64,
    /// Mean reward of the last 20 updates' rollouts.
    pub reward: f64,
    /// Mean share of tokens without a gradient, of the last 20 updates.
    pub clip_fraction: f64,
    /// Mean divergence from the policy that sampled, of the last 20 updates.
    pub kl: f64,
    /// Mean staleness of the last 20 updates' tokens, or their lag.
    pub staleness: f64,
    /// Digest of its last weights.
    pub weights_sha256: Option<Sha256>,
    #[serde(skip)]
    results: Vec<UpdateResult>,
}

/// The learners with plans, `lead` first; none where there is only one.
pub(crate) async fn contenders(store: &Store, lead: &str) -> Result<Vec<Contender>> {
    let mut names = BTreeSet::new();
    for path in store.list("plans").await? {
        let below = path.strip_prefix("plans/").unwrap_or_default();
        let name = below
            .split_once('/')
            .and_then(|(name, _)| name.parse().ok());
        names.extend(name);
    }
    let mut found = Vec::new();
    if names.len() < 2 {
        return Ok(found);
    }
    for name in names {
        let records = Records::new(store.clone(), Name::clone(&name));
        let Some(plan) = records.plan(PolicyVersion::ZERO).await? else {
            continue;
        };
        let start = records.start().await?.map(|start| start.start);
        let results = numbered(store, &format!("results/{name}")).await?;
        found.push(Contender::new(&plan, start, results));
    }
    found.sort_by_key(|one| one.learner.as_str() != lead);
    Ok(found)
}

impl Contender {
    fn new(plan: &Plan, start: Option<String>, results: Vec<UpdateResult>) -> Self {
        let recent = &results[results.len().saturating_sub(RECENT)..];
        let mean = |of: fn(&UpdateResult) -> f64| {
            recent.iter().map(of).sum::<f64>() / recent.len().max(1) as f64
        };
        let algorithm = serde_json::to_value(plan.algorithm.name).unwrap_or_default();
        Self {
            learner: plan.learner.clone(),
            policy: plan.policy.clone(),
            algorithm: algorithm.as_str().unwrap_or_default().to_owned(),
            follows: plan.follows.clone(),
            start,
            updates: results.len() as u64,
            groups: results.iter().map(|result| result.groups).sum(),
            reward: mean(|result| result.reward),
            clip_fraction: mean(|result| result.clip_fraction),
            kl: mean(|result| result.kl),
            staleness: mean(|result| result.mean_staleness),
            weights_sha256: results.last().map(|last| last.weights_sha256),
            results,
        }
    }
}

/// The table.
pub(crate) fn section(page: &mut String, learners: &[Contender]) {
    if learners.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "<section class=\"account\">\n<h2>Learners side by side</h2>\n\
         <p>Reward, clip fraction, divergence and age are means of the last {RECENT} updates. Age is \
         the tokens' staleness: updates between the version that sampled them and the one trained. \
         Where another lineage than the learner's own sampled, none of its updates lie between, and \
         it is their lag: versions behind the newest of that lineage met so far. The two compare with \
         nothing but themselves. Equal weights have equal digests.</p>\n\
         <table><thead><tr><th>learner</th><th>algorithm</th><th>batches</th><th>from</th>\
         <th>updates</th><th>groups</th><th>reward</th><th>clipped</th><th>KL</th>\
         <th>age</th><th>weights</th></tr></thead><tbody>"
    );
    for one in learners {
        let batches = one
            .follows
            .as_ref()
            .map_or_else(|| "its own".to_owned(), |leader| format!("of {leader}"));
        let digest = one.weights_sha256.map(|digest| digest.to_string());
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{batches}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{:.3}</td><td>{:.2} %</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            one.learner,
            Escaped(&one.algorithm),
            Escaped(one.start.as_deref().unwrap_or("the beginning")),
            grouped(one.updates),
            grouped(one.groups),
            one.reward,
            100.0 * one.clip_fraction,
            number(one.kl),
            format_args!("{} {}", Age::of(&one.results).name(), number(one.staleness)),
            digest.as_deref().map_or("none", |digest| &digest[..12]),
        );
    }
    page.push_str("</tbody></table>\n</section>\n");
}

/// Curves of the first four learners, one colour each.
pub(crate) fn figures(learners: &[Contender]) -> Result<Vec<Figure>> {
    if learners.is_empty() {
        return Ok(Vec::new());
    }
    let chart = |title, what: &str, unit, of: fn(&UpdateResult) -> f64| {
        let points = |one: &Contender| {
            let results = one.results.iter();
            finite(results.map(|result| (result.version.0 as f64, of(result))))
        };
        let lines: Vec<_> = INKS
            .into_iter()
            .zip(learners)
            .map(|(ink, one)| (ink, one.learner.as_str(), points(one)))
            .collect();
        let left_out = learners.len().saturating_sub(INKS.len());
        let more = if left_out > 0 {
            format!(" The table above has {left_out} more.")
        } else {
            String::new()
        };
        curves(title, format!("{what}{more}"), unit, &lines)
    };
    Ok(vec![
        chart(
            "Reward by learner",
            "Mean reward of the rollouts each update trained on.",
            Unit::Number,
            |result| result.reward,
        )?,
        chart(
            "Clip fraction by learner",
            "Share of tokens that got no gradient.",
            Unit::Share,
            |result| result.clip_fraction,
        )?,
        chart(
            "Divergence by learner",
            "Mean of log behaviour minus log new probability, in nats.",
            Unit::Number,
            |result| result.kl,
        )?,
        chart(
            "Entropy by learner",
            "Mean entropy on the tokens trained on, in nats.",
            Unit::Number,
            |result| result.entropy,
        )?,
    ])
}
