//! `vintage bench archive`: every arm of it drains the whole topic.

use anyhow::{Context, Result, ensure};
use vintage_tests::{Kafka, number, place, python, run, vintage};

#[test]
fn every_arm_of_the_archive_benchmark_drains_the_topic() -> Result<()> {
    let (folder, _) = place()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let mut bench = vintage(["bench", "archive", "--output", "json", "--rounds", "1"]);
    bench.args(["--megabytes", "2", "--broker", kafka.address()]);
    bench.arg("--python").arg(python());
    bench.arg("--dir").arg(folder.path());
    let report = run(bench)?.json()?;
    let arms = report["arms"].as_array().context("no arms")?;
    ensure!(arms.len() == 6, "{report}");
    for arm in arms {
        let bits = arm["bits_per_token"].as_f64().context("no bits")?;
        let writes = arm["arm"] != "null";
        ensure!(writes == (number(arm, "files")? > 0), "{arm}");
        ensure!(writes == (bits > 30.0), "{arm}");
    }
    Ok(())
}
