//! Report page: summary tiles, charts, account of the groups, settings.

use std::{fmt::Write as _, path::Path};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::{
    before_after,
    chart::number,
    compare, engines,
    figures::{Age, Figure, figures},
    html::Escaped,
    producers,
    record::RunRecord,
    samples,
};
use vintage_human::grouped;

/// Style sheet of the page, light and dark.
pub const STYLE: &str = include_str!("page.css");

/// Renders the whole page.
pub(crate) fn render(record: &RunRecord) -> Result<String> {
    let mut page = String::with_capacity(256 << 10);
    begin(&mut page, &record.name);
    head(&mut page, record);
    tiles(&mut page, record);
    page.push_str("<section class=\"charts\" aria-label=\"charts\">\n");
    for figure in figures(record)? {
        chart(&mut page, &figure);
    }
    page.push_str("</section>\n");
    compare::section(&mut page, &record.learners);
    let side_by_side = compare::figures(&record.learners, record.measured())?;
    if !side_by_side.is_empty() {
        page.push_str("<section class=\"charts\" aria-label=\"learners\">\n");
        for figure in side_by_side {
            chart(&mut page, &figure);
        }
        page.push_str("</section>\n");
    }
    before_after::section(&mut page, &record.evaluations);
    account(&mut page, record);
    rollouts(&mut page, record)?;
    settings(&mut page, record);
    end(&mut page);
    Ok(page)
}

/// Begins a page of its own, with a title in the head.
pub(crate) fn begin(page: &mut String, title: &str) {
    let title = Escaped(title);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} · vintage</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
}

/// Ends a page.
pub(crate) fn end(page: &mut String) {
    page.push_str("</main>\n</body>\n</html>\n");
}

/// Writes a finished page, all of it or nothing.
pub(crate) fn persist(page: &str, to: &Path) -> Result<()> {
    let io = |attempted, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io {
            attempted,
            path,
            source,
        }
    };
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    // A staging file of its own, so that two reports at the same time do not disturb each other.
    let staged = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .map_err(io("write", to))?;
    std::fs::write(staged.path(), page).map_err(io("write", staged.path()))?;
    staged
        .persist(to)
        .map_err(|error| io("write", to)(error.error))?;
    Ok(())
}

fn head(page: &mut String, record: &RunRecord) {
    let setting = |name: &str| record.setting(name).unwrap_or_default();
    let steps: u64 = setting("learner.steps").parse().unwrap_or(0);
    let done = record
        .results
        .last()
        .map_or(0, |last| last.update().version_after().0);
    let state = if done >= steps {
        "finished"
    } else {
        "not finished"
    };
    let when = |ms: Option<i64>| {
        let time = jiff::Timestamp::from_millisecond(ms?).ok()?;
        Some(time.strftime("%Y-%m-%d %H:%M UTC").to_string())
    };
    let last = when(record.results.last().map(|result| result.finished_at_ms));
    let model = record.setting("model.path");
    let model = model.map(|model| format!("model <b>{}</b>", Escaped(model)));
    let rank = record.setting("learner.lora.rank");
    let other = |name: &str, default: &str| {
        let value = record.setting(name).filter(|value| *value != default);
        value.map(|value| format!("<b>{}</b>", Escaped(value)))
    };
    let ways = [
        rank.map(|rank| format!("<b>LoRA</b> of rank {}", Escaped(rank))),
        other("learner.compute", "f32"),
        other("learner.device", "cpu"),
    ];
    let mut facts: Vec<_> = model.into_iter().collect();
    facts.extend([
        format!("algorithm <b>{}</b>", Escaped(setting("algorithm"))),
        format!("learner <b>{}</b>", Escaped(&record.learner)),
        format!("seed <b>{}</b>", Escaped(setting("seed"))),
        format!(
            "<b>{}</b> of {} updates, {state}",
            grouped(done),
            grouped(steps)
        ),
    ]);
    facts.extend(ways.into_iter().flatten());
    facts.extend(last.map(|last| format!("last update {last}")));
    let _ = write!(
        page,
        "<header>\n<p class=\"brand\">vintage run</p>\n<h1>{}</h1>\n<p class=\"facts\">{}</p>\n\
         </header>\n",
        Escaped(&record.name),
        facts.join("<span class=\"dot\"> · </span>"),
    );
}

fn tiles(page: &mut String, record: &RunRecord) {
    let results = &record.results;
    let tokens: u64 = results.iter().map(|result| result.tokens).sum();
    let per_token = |sum: f64| if tokens > 0 { sum / tokens as f64 } else { 0.0 };
    let stale = results
        .iter()
        .map(|result| result.mean_staleness * result.tokens as f64)
        .sum();
    let stalest = results
        .iter()
        .map(|result| result.max_staleness)
        .max()
        .unwrap_or(0);
    let masked: u64 = results.iter().map(|result| result.masked_tokens).sum();
    let rows: u64 = results.iter().map(|result| result.rows).sum();
    let busy = |of: fn(&vintage_control::UpdateResult) -> f64| results.iter().map(of).sum::<f64>();
    let seconds =
        busy(|r| r.wait_seconds) + busy(|r| r.update_seconds) + busy(|r| r.record_seconds);

    page.push_str("<section class=\"tiles\" aria-label=\"summary\">\n");
    if let (Some(first), Some(last)) = (record.evaluations.first(), record.evaluations.last()) {
        let measured = record.measured();
        let [greedy, before] = [last.greedy_accuracy, first.sampled_accuracy];
        tile(
            page,
            &format!("{}, held out", measured.name()),
            &measured.value(last.sampled_accuracy),
            &format!(
                "{} at version {}; greedy {}",
                measured.value(before),
                first.version,
                measured.value(greedy),
            ),
        );
    }
    if let Some(last) = results.last() {
        let recent = &results[results.len().saturating_sub(20)..];
        let reward = recent.iter().map(|result| result.reward).sum::<f64>() / recent.len() as f64;
        let note = format!(
            "mean of updates {} to {}",
            recent[0].update(),
            last.update()
        );
        tile(page, "reward", &format!("{reward:.3}"), &note);
    }
    tile(
        page,
        match Age::of(results) {
            Age::Staleness => "mean staleness",
            Age::Lag => "mean lag",
        },
        &number(per_token(stale)),
        &format!("updates; largest {stalest}"),
    );
    tile(
        page,
        "masked share",
        &format!("{:.2} %", 100.0 * per_token(masked as f64)),
        &format!("of {} tokens", grouped(tokens)),
    );
    tile(
        page,
        "rollouts trained on",
        &grouped(rows),
        &format!(
            "in {} groups",
            grouped(results.iter().map(|result| result.groups).sum(),)
        ),
    );
    let pace = if seconds > 0.0 {
        results.len() as f64 / seconds
    } else {
        0.0
    };
    tile(
        page,
        "training time",
        &clock(seconds),
        &format!("{} updates a second", number(pace)),
    );
    page.push_str("</section>\n");
}

fn tile(page: &mut String, name: &str, value: &str, note: &str) {
    let _ = writeln!(
        page,
        "<div class=\"tile\"><p class=\"name\">{name}</p><p class=\"value\">{value}</p>\
         <p class=\"note\">{note}</p></div>"
    );
}

pub(crate) fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole % 3600 / 60),
    }
}

pub(crate) fn chart(page: &mut String, figure: &Figure) {
    let Figure {
        title,
        note,
        legend,
        svg,
    } = figure;
    let _ = write!(
        page,
        "<figure>\n<figcaption><h2>{title}</h2><p>{}</p>",
        Escaped(note)
    );
    if legend.len() > 1 {
        page.push_str("<ul class=\"legend\">");
        for (ink, name) in legend {
            let _ = write!(
                page,
                "<li><i style=\"background:{}\"></i>{name}</li>",
                ink.variable()
            );
        }
        page.push_str("</ul>");
    }
    page.push_str("</figcaption>\n");
    match svg {
        Some(svg) => {
            let _ = write!(page, "<div role=\"img\" aria-label=\"{title}\">{svg}</div>");
        }
        None => page.push_str("<p class=\"empty\">nothing recorded yet</p>"),
    }
    page.push_str("\n</figure>\n");
}

/// Writes the sections that are read from the archive.
fn rollouts(page: &mut String, record: &RunRecord) -> Result<()> {
    let age = Age::of(&record.results);
    page.push_str("<section class=\"account\">\n<h2>Producers</h2>\n");
    match &record.rollouts {
        Ok(rollouts) => producers::section(page, &rollouts.producers, age),
        Err(reason) => {
            let _ = writeln!(page, "<p>Not shown: {}.</p>", Escaped(reason));
        }
    }
    page.push_str("</section>\n");
    engines::section(page, &record.results);
    let Ok(rollouts) = &record.rollouts else {
        return Ok(());
    };
    page.push_str("<section class=\"charts\" aria-label=\"lengths\">\n");
    chart(page, &producers::figure(&rollouts.producers.lengths)?);
    page.push_str("</section>\n<section class=\"account\">\n<h2>Samples</h2>\n");
    samples::section::section(page, &rollouts.samples, age);
    page.push_str("</section>\n");
    Ok(())
}

/// Writes the account of the groups. The counts appear only once the run's summary has them.
fn account(page: &mut String, record: &RunRecord) {
    let rejected: u64 = record.rejected.values().sum();
    let count = |name: &str| record.summary.as_ref()?.get(name).and_then(Value::as_u64);
    page.push_str("<section class=\"account\">\n<h2>Where every group went</h2>\n");
    let counts = (
        count("produced"),
        count("trained"),
        count("in_flight"),
        count("lost"),
    );
    if let (Some(produced), Some(trained), Some(in_flight), Some(lost)) = counts {
        let parts = [
            ("trained", trained),
            ("rejected", rejected),
            ("in flight", in_flight),
            ("lost", lost),
        ];
        let sum: u64 = parts.iter().map(|part| part.1).sum();
        let verdict = if sum == produced { "=" } else { "≠" };
        let _ = write!(
            page,
            "<p class=\"identity\"><b>{}</b> produced {verdict} ",
            grouped(produced)
        );
        let classes = ["a", "b", "c", "d"];
        let term = |(class, (name, count)): (&&str, &(&str, u64))| {
            format!(
                "<i class=\"key {class}\"></i><b>{}</b> {name}",
                grouped(*count)
            )
        };
        let terms: Vec<_> = classes.iter().zip(&parts).map(term).collect();
        let _ = writeln!(page, "{}</p>", terms.join(" + "));
        page.push_str("<div class=\"strip\" aria-hidden=\"true\">");
        for (class, (_, count)) in classes.iter().zip(parts) {
            if count > 0 {
                let _ = write!(
                    page,
                    "<i class=\"{class}\" style=\"flex-grow:{count}\"></i>"
                );
            }
        }
        page.push_str("</div>\n");
    } else {
        page.push_str("<p>The account is made when <code>vintage run</code> ends; of roles in processes of their own, and at any time, <code>vintage audit</code> makes it.</p>\n");
    }
    if rejected > 0 {
        page.push_str("<table><thead><tr><th>rejected for</th><th>groups</th></tr></thead><tbody>");
        for (reason, count) in &record.rejected {
            let _ = write!(
                page,
                "<tr><td>{}</td><td>{}</td></tr>",
                Escaped(reason.replace('_', " ")),
                grouped(*count)
            );
        }
        page.push_str("</tbody></table>\n");
    }
    let text = |name: &str| record.summary.as_ref()?.get(name)?.as_str();
    if let Some(hash) = text("weights_sha256") {
        let _ = writeln!(
            page,
            "<p class=\"hash\">weights <code>{}</code></p>",
            Escaped(hash)
        );
    }
    page.push_str("</section>\n");
}

fn settings(page: &mut String, record: &RunRecord) {
    let changed = |origin: &Option<String>| origin.as_deref().is_some_and(|from| from != "default");
    let count = record
        .settings
        .iter()
        .filter(|setting| changed(&setting.origin))
        .count();
    let _ = write!(
        page,
        "<section class=\"settings\">\n<h2>Settings</h2>\n<p>{count} differ from the defaults.</p>\n\
         <table><thead><tr><th>setting</th><th>value</th><th>from</th></tr></thead><tbody>\n"
    );
    for setting in &record.settings {
        let class = if changed(&setting.origin) {
            " class=\"changed\""
        } else {
            ""
        };
        let origin = setting.origin.as_deref().unwrap_or_default();
        let _ = writeln!(
            page,
            "<tr{class}><td><code>{}</code></td><td><code>{}</code></td><td>{}</td></tr>",
            Escaped(setting.key.to_string()),
            Escaped(&setting.value),
            Escaped(origin),
        );
    }
    page.push_str("</tbody></table>\n</section>\n");
}
