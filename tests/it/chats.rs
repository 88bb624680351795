//! The table of rendered chats agrees with transformers.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use vintage_tests::{python, run};

/// Tests the table with which `infra/model/tests/it/chats.rs` compares our templates.
#[test]
fn the_table_of_rendered_chats_is_what_transformers_renders() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("../infra/model/tests/chats");
    let mut command = Command::new(python());
    command.arg(root.join("python/chats.py")).arg(&folder);
    let theirs = run(command)?.stdout;
    let table = std::fs::read_to_string(folder.join("rendered.jsonl"))?;
    ensure!(table.lines().count() > 500, "the table is short");
    for (ours, theirs) in table.split('\n').zip(theirs.split('\n')) {
        ensure!(
            ours == theirs,
            "the table has\n{ours}\nand transformers renders\n{theirs}"
        );
    }
    let lines = (table.split('\n').count(), theirs.split('\n').count());
    ensure!(
        lines.0 == lines.1,
        "{} lines, and transformers gives {}",
        lines.0,
        lines.1
    );
    table
        .lines()
        .find(|line| line.contains("strict-alternation"))
        .context("no such template")?;
    Ok(())
}
