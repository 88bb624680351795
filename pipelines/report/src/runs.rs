//! Several runs on one page: a table, curves, and the settings that differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde::Serialize;
use vintage_control::UpdateResult;
use vintage_human::grouped;
use vintage_store::Store;

use crate::{
    compare::{Side, side_by_side},
    contender::RECENT,
    error::Result,
    figures::{Age, Figure},
    held_out::{HeldOut, held_out_texts},
    html::Escaped,
    page::{begin, chart, clock, end, persist},
    record::RunRecord,
};

/// Result of [`compare`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WrittenComparison {
    /// Path of the page.
    pub path: PathBuf,
    /// Size of the page in bytes.
    pub bytes: u64,
    /// Runs, in the order given.
    pub runs: Vec<ComparedRun>,
    /// Settings that are not equal in all runs: for each its value in every run, as TOML; `None`
    /// where a run does not set it.
    pub settings: BTreeMap<String, Vec<Option<String>>>,
}

/// Run on a page of several.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedRun {
    /// Name that tells the run from the others: its own name, or its folder if two have one name.
    pub name: String,
    /// Folder of the run.
    pub folder: PathBuf,
    /// Algorithm of its settings.
    pub algorithm: String,
    /// Number of updates with a result.
    pub updates: u64,
    /// First and last evaluation on held-out prompts; `None` if there was none.
    pub held_out: Option<HeldOut>,
    /// Mean reward of the rollouts of the last 20 updates.
    pub reward: f64,
    /// Mean staleness of all tokens, in updates (or their lag in versions, see `lags`).
    pub staleness: f64,
    /// True if `staleness` is a lag in versions of another policy.
    pub lags: bool,
    /// Share of all tokens that got no gradient.
    pub masked_share: f64,
    /// Number of tokens trained on.
    pub tokens: u64,
    /// Seconds in which the learner waited, computed and recorded.
    pub seconds: f64,
}

/// Writes one page that shows runs side by side: what each came to, curves of the first four, and
/// the settings that differ. Runs are given by their folders and stores. Archives are not read.
///
/// # Errors
/// A folder that is not a run's, a record that cannot be read, or a page that cannot be written.
pub async fn compare(runs: &[(&Path, Store)], to: &Path) -> Result<WrittenComparison> {
    let mut records = Vec::new();
    for (folder, store) in runs {
        records.push(RunRecord::outline(folder, store).await?);
    }
    let folders: Vec<_> = runs.iter().map(|(folder, _)| *folder).collect();
    let compared: Vec<_> = names(&records, &folders)
        .into_iter()
        .zip(&records)
        .zip(&folders)
        .map(|((name, record), folder)| ComparedRun::new(name, folder, record))
        .collect();
    let settings = differing(&records);
    let page = render(&compared, &records, &settings)?;
    let bytes = page.len() as u64;
    persist(&page, to)?;
    Ok(WrittenComparison {
        path: to.to_owned(),
        bytes,
        runs: compared,
        settings,
    })
}

/// Returns a name for each run that no other has.
fn names(records: &[RunRecord], folders: &[&Path]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records {
        *counts.entry(&record.name).or_default() += 1;
    }
    let name = |(record, folder): (&RunRecord, &&Path)| match counts[record.name.as_str()] {
        1 => record.name.clone(),
        _ => folder.display().to_string(),
    };
    records.iter().zip(folders).map(name).collect()
}

impl ComparedRun {
    fn new(name: String, folder: &Path, record: &RunRecord) -> Self {
        let results = &record.results;
        let sum = |of: fn(&UpdateResult) -> f64| results.iter().map(of).sum::<f64>();
        let tokens: u64 = results.iter().map(|result| result.tokens).sum();
        let per_token = |sum: f64| sum / tokens.max(1) as f64;
        let recent = &results[results.len().saturating_sub(RECENT)..];
        let reward = recent.iter().map(|result| result.reward).sum::<f64>();
        Self {
            name,
            folder: folder.to_owned(),
            algorithm: record.setting("algorithm").unwrap_or_default().to_owned(),
            updates: results.len() as u64,
            held_out: HeldOut::of(&record.evaluations, record.measured()),
            reward: reward / recent.len().max(1) as f64,
            staleness: per_token(sum(|result| result.mean_staleness * result.tokens as f64)),
            lags: Age::of(results) == Age::Lag,
            masked_share: per_token(sum(|result| result.masked_tokens as f64)),
            tokens,
            seconds: sum(|r| r.wait_seconds + r.update_seconds + r.record_seconds),
        }
    }
}

/// Returns the settings that are not equal in all runs. The name of a run is its own.
fn differing(records: &[RunRecord]) -> BTreeMap<String, Vec<Option<String>>> {
    let all = records.iter().flat_map(|record| &record.settings);
    let keys: BTreeSet<_> = all.map(|setting| setting.key.to_string()).collect();
    let values = |key: String| {
        let of = |record: &RunRecord| record.setting(&key).map(str::to_owned);
        let values: Vec<_> = records.iter().map(of).collect();
        (key, values)
    };
    keys.into_iter()
        .filter(|key| key != "run")
        .map(values)
        .filter(|(_, values)| values.windows(2).any(|pair| pair[0] != pair[1]))
        .collect()
}

fn render(
    runs: &[ComparedRun],
    records: &[RunRecord],
    settings: &BTreeMap<String, Vec<Option<String>>>,
) -> Result<String> {
    let title = runs
        .iter()
        .map(|run| run.name.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let mut page = String::with_capacity(128 << 10);
    begin(&mut page, &title);
    let _ = write!(
        page,
        "<header>\n<p class=\"brand\">vintage runs</p>\n<h1>{}</h1>\n\
         <p class=\"facts\"><b>{}</b> runs</p>\n</header>\n",
        Escaped(&title),
        runs.len(),
    );
    table(&mut page, runs);
    page.push_str("<section class=\"charts\" aria-label=\"charts\">\n");
    for figure in figures(runs, records)? {
        chart(&mut page, &figure);
    }
    page.push_str("</section>\n");
    differences(&mut page, runs, settings);
    end(&mut page);
    Ok(page)
}

fn table(page: &mut String, runs: &[ComparedRun]) {
    let _ = writeln!(
        page,
        "<section class=\"account\">\n<h2>Runs side by side</h2>\n\
         <p>Held out: accuracy, or mean reward where a program judges, of the first evaluated version → \
         the last. Reward is the mean of the last {RECENT} updates. Staleness and the masked share are \
         of all tokens.</p>\n\
         <div class=\"wide\"><table class=\"figures\"><thead><tr><th>run</th><th>algorithm</th>\
         <th>updates</th><th>held out, sampled</th><th>held out, greedy</th><th>reward</th>\
         <th>staleness</th><th>masked</th><th>tokens</th><th>time</th></tr></thead><tbody>"
    );
    for run in runs {
        let [sampled, greedy] = held_out_texts(run.held_out);
        let lag = if run.lags {
            " <small>lag, versions</small>"
        } else {
            ""
        };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{sampled}</td><td>{greedy}</td><td>{:.3}</td>\
             <td>{:.1}{lag}</td><td>{:.2} %</td><td>{}</td><td>{}</td></tr>",
            Escaped(&run.name),
            Escaped(&run.algorithm),
            grouped(run.updates),
            run.reward,
            run.staleness,
            100.0 * run.masked_share,
            grouped(run.tokens),
            clock(run.seconds),
        );
    }
    page.push_str("</tbody></table></div>\n</section>\n");
}

fn figures(runs: &[ComparedRun], records: &[RunRecord]) -> Result<Vec<Figure>> {
    let sides: Vec<_> = runs
        .iter()
        .zip(records)
        .map(|(run, record)| Side {
            name: &run.name,
            results: &record.results,
            evaluations: &record.evaluations,
            measured: record.measured(),
        })
        .collect();
    side_by_side(&sides, "run")
}

fn differences(
    page: &mut String,
    runs: &[ComparedRun],
    settings: &BTreeMap<String, Vec<Option<String>>>,
) {
    page.push_str("<section class=\"settings differ\">\n<h2>Settings that differ</h2>\n");
    if settings.is_empty() {
        page.push_str("<p>None.</p>\n</section>\n");
        return;
    }
    page.push_str("<div class=\"wide\"><table><thead><tr><th>setting</th>");
    for run in runs {
        let _ = write!(page, "<th>{}</th>", Escaped(&run.name));
    }
    page.push_str("</tr></thead><tbody>\n");
    for (key, values) in settings {
        let _ = write!(page, "<tr><td><code>{}</code></td>", Escaped(key));
        for value in values {
            let value = value.as_deref().map_or("not set".to_owned(), |value| {
                format!("<code>{}</code>", Escaped(value))
            });
            let _ = write!(page, "<td>{value}</td>");
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n</section>\n");
}
