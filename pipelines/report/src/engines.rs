//! Section `Engines` of the page: log-probs that engines reported, against those of the versions
//! that sampled.

use std::collections::BTreeMap;

use vintage_control::{EngineMismatch, UpdateResult};
use vintage_human::grouped;

use crate::{html::Escaped, producers::table};

/// Checks of one engine over a run.
#[derive(Debug, Default)]
struct Checks<'a> {
    count: u64,
    rows: u64,
    tokens: u64,
    /// Sums over the tokens.
    mean: f64,
    kl: f64,
    /// Check with the largest mean difference.
    furthest: Option<&'a EngineMismatch>,
}

/// Adds the section, if any engine was checked.
pub(crate) fn section(page: &mut String, results: &[UpdateResult]) {
    let mut engines: BTreeMap<&str, Checks<'_>> = BTreeMap::new();
    for found in results.iter().flat_map(|result| &result.mismatch) {
        engines.entry(&found.engine).or_default().add(found);
    }
    if engines.is_empty() {
        return;
    }
    page.push_str(
        "<section class=\"account\">\n<h2>Engines</h2>\n<p>Log-probs that engines reported, against \
         those that the version which sampled gives the same tokens, in nats a token.</p>\n",
    );
    let heads = [
        "engine",
        "checks",
        "rollouts",
        "tokens",
        "difference",
        "largest of a check",
        "divergence",
        "worst token",
    ];
    let rows = engines.iter().map(|(engine, checks)| checks.cells(engine));
    table(page, &heads, rows);
    page.push_str("</section>\n");
}

impl<'a> Checks<'a> {
    fn add(&mut self, found: &'a EngineMismatch) {
        self.count += 1;
        self.rows += found.rows;
        self.tokens += found.tokens;
        self.mean += found.mean * found.tokens as f64;
        self.kl += found.kl * found.tokens as f64;
        if self.furthest.is_none_or(|known| found.mean > known.mean) {
            self.furthest = Some(found);
        }
    }

    fn cells(&self, engine: &str) -> Vec<String> {
        let nats = |nats: f64| format!("{nats:.1e}");
        let tokens = self.tokens.max(1) as f64;
        let largest = self.furthest.map(|found| found.mean);
        let worst = self.furthest.map(|found| {
            let token = &found.worst;
            format!(
                "{:.3} for {:.3}<small>version {}</small>",
                token.recomputed, token.reported, token.version
            )
        });
        vec![
            format!("<code>{}</code>", Escaped(engine)),
            grouped(self.count),
            grouped(self.rows),
            grouped(self.tokens),
            nats(self.mean / tokens),
            largest.map_or_else(String::new, nats),
            nats(self.kl / tokens),
            worst.unwrap_or_default(),
        ]
    }
}
