//! `vintage bench fleet`: what a seed gives, and that the figures belong together.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{number, run, vintage};

fn fleets(seed: &str) -> Result<Value> {
    let mut bench = vintage(["bench", "fleet", "--output", "json", "--seed", seed]);
    bench.args([
        "--producers",
        "1,6",
        "--updates",
        "400",
        "--max-staleness",
        "4",
    ]);
    bench.args([
        "--kill-every",
        "4",
        "--join-after",
        "1",
        "--stop-every",
        "8",
    ]);
    bench.args([
        "--stop-for",
        "12",
        "--cost-rollouts",
        "20000",
        "--cost-producers",
        "4",
    ]);
    run(bench)?.json()
}

/// Removes what is measured in real time; returns how many such entries there were.
fn strip(value: &mut Value) -> usize {
    match value {
        Value::Object(entries) => {
            let measured = ["measured", "cost"].iter();
            let found = measured
                .filter(|name| entries.remove(**name).is_some())
                .count();
            found + entries.values_mut().map(strip).sum::<usize>()
        }
        Value::Array(items) => items.iter_mut().map(strip).sum(),
        _ => 0,
    }
}

#[test]
fn a_fleet_on_paper_keeps_its_books_and_its_bound() -> Result<()> {
    let found = fleets("3")?;
    let list = found["fleets"].as_array().context("no fleets")?;
    ensure!(list.len() == 2, "{found}");
    for fleet in list {
        for arm in ["leases", "each_for_itself"] {
            let books = &fleet[arm]["books"];
            let of = |key| number(books, key);
            let rejected = books["rejected"].as_object().context("no reasons")?;
            let rejected: u64 = rejected.values().filter_map(Value::as_u64).sum();
            ensure!(
                of("begun")? == of("published")? + of("dropped")? + of("in_hand")?,
                "{books}"
            );
            ensure!(
                of("published")? == of("trained")? + rejected + of("in_flight")?,
                "{books}"
            );
            ensure!(of("trained")? == 400 * 16, "{books}");
        }
        let staleness = &fleet["leases"]["staleness"];
        ensure!(number(staleness, "max")? <= 4, "{staleness}");
    }
    let naive = &list[1]["each_for_itself"]["staleness"];
    ensure!(
        number(naive, "max")? > 4,
        "six producers, each for itself: {naive}"
    );
    let cost = found["cost"].as_array().context("no cost")?;
    ensure!(cost.len() == 3, "{found}");
    Ok(())
}

#[test]
fn a_fleet_on_paper_is_a_function_of_its_seed() -> Result<()> {
    let (mut first, mut again, mut other) = (fleets("1")?, fleets("1")?, fleets("2")?);
    for found in [&mut first, &mut again, &mut other] {
        ensure!(
            strip(found) == 5,
            "two arms of two fleets, and the cost: {found}"
        );
    }
    ensure!(first == again, "{first}\n{again}");
    ensure!(first["fleets"] != other["fleets"], "{first}");
    Ok(())
}
