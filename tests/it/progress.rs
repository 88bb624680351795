//! Progress as JSON lines, as programs read it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{place, run};

use crate::small;

#[test]
fn every_line_of_a_run_is_json_and_has_the_result_of_every_update() -> Result<()> {
    let (folder, out) = place()?;
    let mut command = small::digits(folder.path(), &out)?;
    command.args(["--log-format", "json", "-v"]);
    let ended = run(command)?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let mut updates = Vec::new();
    for line in ended.stderr.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(line["timestamp"].is_string(), "{line}");
        if line["event"] == "update" {
            let recorded = out.join(format!("results/lead/{}.json", line["update"]));
            let recorded: Value = serde_json::from_slice(&std::fs::read(recorded)?)?;
            ensure!(line["result"] == recorded, "{line} is not {recorded}");
            updates.push(line["update"].as_u64());
        }
    }
    assert_eq!(updates, [Some(0), Some(1), Some(2)]);
    let summary: Value = serde_json::from_str(&ended.stdout)?;
    ensure!(summary["finished"] == true, "{summary}");
    Ok(())
}
