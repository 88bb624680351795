//! Invariant 2: files can be read by anyone. The readers of docs/readers.md read the archive of a
//! run with two incarnations as it is, and agree with the learner's own records.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vintage_tests::{number, place, python, run, vintage};

use crate::small;

const STEPS: u64 = 5;

/// Returns the records of every update, in order.
fn records(out: &Path, kind: &str) -> Result<Vec<Value>> {
    let read = |update: u64| -> Result<Value> {
        let path = out.join(format!("{kind}/lead/{update}.json"));
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    (0..STEPS).map(read).collect()
}

/// Leaves beside every archive file what a killed process leaves: the same bytes under the name of
/// a staging file, as `infra/store/src/folder.rs` gives it.
fn leave_staged(folder: &Path) -> Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            leave_staged(&path)?;
        } else if name.ends_with(".parquet") {
            std::fs::copy(&path, path.with_file_name(format!(".{name}#1")))?;
        }
    }
    Ok(())
}

#[test]
fn pyarrow_duckdb_and_polars_read_the_archive_as_it_lies() -> Result<()> {
    let (folder, out) = place()?;
    small::finished(small::digits(folder.path(), &out)?)?;
    let mut more = small::digits(folder.path(), &out)?;
    more.args(["--steps", &STEPS.to_string()]);
    let summary = small::finished(more)?;
    ensure!(
        summary["produced"] == summary["trained"],
        "all that is archived is trained: {summary}"
    );

    leave_staged(&out.join("archive"))?;

    let table = out.join("uses.parquet");
    let write = |to: &Path| {
        let mut uses = vintage(["uses", "--output", "json", "--to"]);
        uses.arg(to).arg(&out);
        run(uses)
    };
    let written = write(&table)?.json()?;
    ensure!(written["updates"] == STEPS, "{written}");
    ensure!(written["rows"] == summary["archived_rows"], "{written}");
    // What is there is left alone.
    let before = std::fs::read(&table)?;
    let again = write(&table)?;
    ensure!(again.status.code() == Some(2), "{}", again.status);
    ensure!(again.stderr.contains("it exists"), "{}", again.stderr);
    ensure!(std::fs::read(&table)? == before, "it was written over");

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python());
    command
        .arg(root.join("python/readers.py"))
        .arg(&out)
        .arg(root.join("../docs/readers.md"));
    command.arg(root.join("../schemas/trajectory/tests/golden/full.arrow"));
    let found = run(command)?.json()?;

    ensure!(found["message"]["rows"] == 1, "{found}");
    ensure!(found["message"]["sample"] == "dreiundzwanzig ✓", "{found}");
    ensure!(found["files"]["lives"] == json!([0, 1]), "{found}");
    ensure!(
        found["files"]["rows"] == summary["archived_rows"],
        "{found}"
    );
    ensure!(found["files"]["messages"] == summary["produced"], "{found}");

    // Tokens and rewards as the learner counted them.
    let mut tokens: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut reward, mut rows) = (0.0, 0);
    for result in records(&out, "results")? {
        let version = number(&result, "version")?;
        for (staleness, count) in result["staleness"].as_object().context("no histogram")? {
            let sampled_by = version - staleness.parse::<u64>()?;
            *tokens.entry(sampled_by).or_default() += count.as_u64().context("no count")?;
        }
        let of_update = number(&result, "rows")?;
        reward += result["reward"].as_f64().context("no reward")? * of_update as f64;
        rows += of_update;
    }
    let close = |value: &Value, expected: f64| {
        value
            .as_f64()
            .is_some_and(|value| (value - expected).abs() < 1e-9)
    };
    for reader in ["pyarrow", "polars"] {
        ensure!(
            found[reader]["tokens"] == json!(tokens),
            "{reader}: {found}, not {tokens:?}"
        );
        ensure!(
            close(&found[reader]["reward"], reward / rows as f64),
            "{reader}: {found}"
        );
    }
    let by_version = found["duckdb"]["by_version"]
        .as_array()
        .context("no rows")?;
    ensure!(by_version.len() == tokens.len(), "{found}");
    for (row, (version, tokens)) in by_version.iter().zip(&tokens) {
        let rollouts = row[1].as_u64().context("no count")?;
        ensure!(row[0] == json!(version), "{found}");
        ensure!(close(&row[3], *tokens as f64 / rollouts as f64), "{found}");
    }

    // By the staleness of their tokens, which have one version here: as results count tokens.
    let mut by_age: BTreeMap<u64, u64> = BTreeMap::new();
    for result in records(&out, "results")? {
        for (staleness, count) in result["staleness"].as_object().context("no histogram")? {
            *by_age.entry(staleness.parse()?).or_default() += count.as_u64().context("no count")?;
        }
    }
    let rows_by_age = found["duckdb"]["by_age"].as_array().context("no rows")?;
    let ages: Vec<_> = rows_by_age.iter().map(|row| row[0].clone()).collect();
    ensure!(
        ages == by_age.keys().map(|age| json!(age)).collect::<Vec<_>>(),
        "{found}"
    );
    let counted: u64 = rows_by_age.iter().filter_map(|row| row[1].as_u64()).sum();
    ensure!(counted == rows, "{found}");

    // The page's examples: both incarnations, all rollouts, and one mean, in every reader.
    let examples = &found["examples"];
    for reader in ["pyarrow", "polars", "pandas"] {
        let lives = examples[reader].as_array().context("no lives")?;
        ensure!(lives.len() == 2, "{reader}: {examples}");
        let (mut of, mut sum) = (0, 0.0);
        for (life, row) in lives.iter().enumerate() {
            ensure!(row[0] == life, "{reader}: {examples}");
            let rollouts = row[1].as_u64().context("no count")?;
            of += rollouts;
            sum += rollouts as f64 * row[2].as_f64().context("no mean")?;
        }
        // Some readers take means in f32.
        let mean = sum / of as f64;
        let agrees = of == rows && (mean - reward / rows as f64).abs() < 1e-5;
        ensure!(agrees, "{reader}: {examples}, not {}", reward / rows as f64);
    }
    ensure!(examples["datasets"][0] == rows, "{examples}");
    ensure!(
        close(&examples["datasets"][1], reward / rows as f64),
        "{examples}"
    );
    ensure!(found["left_of_bad_rewards"] == rows - 2, "{found}");

    // The page's second query: exactly the records that plan 0 names.
    let mut planned = Vec::new();
    for group in records(&out, "plans")?[0]["groups"]
        .as_array()
        .context("no groups")?
    {
        let record = &group["records"][0];
        for row in 0..number(group, "rows")? {
            planned.push(json!([record["partition"], record["offset"], row]));
        }
    }
    planned.sort_by_key(ToString::to_string);
    let used = found["duckdb"]["used"].as_array().context("no rows")?;
    let mut used: Vec<_> = used
        .iter()
        .map(|row| json!([row[0], row[1], row[2]]))
        .collect();
    used.sort_by_key(ToString::to_string);
    ensure!(used == planned, "{used:?}, not {planned:?}");
    Ok(())
}
