//! Data sets as they are published: Parquet, gzip, several files, columns of their own.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{place, python, run};

use crate::small;

/// Writes `a.parquet` and `b.parquet` with structs, and `heldout.jsonl.gz`, into the working directory.
const WRITE: &str = "\
import gzip, json, pyarrow as pa, pyarrow.parquet as pq
rows = [{'task': f'{n}=', 'gold': {'final': str(n), 'level': n % 3}} for n in range(10)]
pq.write_table(pa.Table.from_pylist(rows[:4]), 'a.parquet')
pq.write_table(pa.Table.from_pylist(rows[4:8]), 'b.parquet', compression='zstd', row_group_size=2)
held = ''.join(json.dumps(row) + chr(10) for row in rows[8:])
gzip.open('heldout.jsonl.gz', 'wt').write(held)
";

#[test]
fn a_run_trains_on_parquet_files_and_holds_them() -> Result<()> {
    let (folder, out) = place()?;
    let mut write = Command::new(python());
    write.args(["-c", WRITE]).current_dir(folder.path());
    let written = run(write)?;
    ensure!(written.status.success(), "{}", written.stderr);
    let training = |order: &str, steps: &str| {
        let mut command = small::training(&out);
        command.args(["--steps", steps, "--heldout", "heldout.jsonl.gz"]);
        command.args(["--set", &format!("prompts.train={order}")]);
        command.args(["--set", "prompts.columns.prompt=task"]);
        command.args(["--set", "prompts.columns.answer=gold.final"]);
        command.args(["--set", "evaluation.every=2"]);
        command.current_dir(folder.path());
        command
    };
    let order = "[\"a.parquet\", \"b.parquet\"]";
    let summary = small::finished(training(order, "2"))?;
    ensure!(summary["final_accuracy"].is_number(), "{summary}");

    // Every file has its digest, of its own bytes.
    let inputs: Value = serde_json::from_slice(&std::fs::read(out.join("inputs/0.json"))?)?;
    let train = inputs["inputs"]["prompts.train"]
        .as_object()
        .context("digests")?;
    let names: Vec<&String> = train.keys().collect();
    ensure!(
        names == ["1 of 2: a.parquet", "2 of 2: b.parquet"],
        "{inputs}"
    );
    let mut sum = Command::new("sha256sum");
    sum.arg("a.parquet").current_dir(folder.path());
    let sum = run(sum)?.stdout;
    let digest = train[names[0]].as_str().context("a digest")?;
    ensure!(sum.starts_with(digest), "{sum} {digest}");

    // Another order is another run, and so is another file.
    let turned = run(training("[\"b.parquet\", \"a.parquet\"]", "2"))?;
    ensure!(turned.stderr.contains("prompts.train"), "{}", turned.stderr);
    ensure!(turned.status.code() == Some(2), "{}", turned.stderr);
    let other = std::fs::read(folder.path().join("a.parquet"))?;
    std::fs::write(folder.path().join("b.parquet"), other)?;
    let changed = run(training(order, "3"))?;
    ensure!(
        changed.stderr.contains("b.parquet has sha256"),
        "{}",
        changed.stderr
    );
    ensure!(changed.status.code() == Some(2), "{}", changed.stderr);
    Ok(())
}

#[test]
fn what_cannot_be_read_is_named_before_anything_is_written() -> Result<()> {
    let (folder, out) = place()?;
    let file = folder.path().join("cut.parquet");
    std::fs::write(&file, b"PAR1 and no more")?;
    let mut command = small::training(&out);
    command.arg("--prompts").arg(&file);
    let refused = run(command)?;
    ensure!(refused.status.code() == Some(2), "{}", refused.stderr);
    ensure!(refused.stderr.contains("cut.parquet"), "{}", refused.stderr);
    ensure!(
        refused.stderr.contains("was not fetched"),
        "{}",
        refused.stderr
    );
    let rows = small::prompts(folder.path())?;
    let mut command = small::training(&out);
    command.arg("--prompts").arg(&rows);
    command.args(["--set", "prompts.columns.answer=final"]);
    let refused = run(command)?;
    ensure!(refused.status.code() == Some(2), "{}", refused.stderr);
    ensure!(refused.stderr.contains("\"final\""), "{}", refused.stderr);
    ensure!(!out.exists(), "nothing is made");
    Ok(())
}
