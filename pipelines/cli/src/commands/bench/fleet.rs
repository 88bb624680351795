//! `vintage bench fleet`: gate, leases and intake with simulated producers on a virtual clock.

use anyhow::Result;
use serde::Serialize;
use vintage_bench::fleet::{Capacities, Churn, Fleet, Outcome, Rule, Stretch, cost, simulate};

use crate::{
    args::FleetBenchArgs,
    commands::Context,
    exit::{CommandOutcome, Signal, Usage},
    output::bytes,
};

const MB: f64 = 1e6;

/// Largest fleet for which the baseline is simulated: its backlog grows with the fleet.
const LARGEST_BASELINE: usize = 64;

/// Results of the benchmark.
#[derive(Serialize)]
struct Results {
    /// Settings, the same for all fleets but for their size.
    settings: Fleet,
    fleets: Vec<OfSize>,
    /// Real time of the program's own code as a run grows.
    cost: Vec<Stretch>,
}

/// Outcome of a fleet of one size.
#[derive(Serialize)]
struct OfSize {
    producers: usize,
    leases: Outcome,
    /// Outcome of the baseline; absent for large fleets.
    each_for_itself: Option<Outcome>,
}

/// Simulates fleets of every size asked for, and measures the code in a long run. A signal ends it.
pub(crate) async fn fleet(args: &FleetBenchArgs, context: &Context) -> Result<CommandOutcome> {
    let settings = settings(args);
    settings.check()?;
    if args.producers.contains(&0) || args.cost_producers == 0 {
        return Err(Usage::new("a fleet has at least one producer").into());
    }
    let asked = args.clone();
    let simulated = tokio::task::spawn_blocking(move || results(&asked, settings));
    let results = tokio::select! {
        results = simulated => results??,
        () = context.signals.stop.cancelled() => {
            let signal = context.signals.received().unwrap_or(Signal::Interrupt);
            return Ok(CommandOutcome::Interrupted(signal));
        }
    };
    context
        .output
        .print(&results, |results| text(results, args))?;
    Ok(CommandOutcome::Done)
}

fn results(args: &FleetBenchArgs, settings: Fleet) -> Result<Results> {
    let of_size = |&producers: &usize| -> Result<OfSize> {
        let fleet = Fleet {
            producers,
            ..settings.clone()
        };
        let naive = Fleet {
            rule: Rule::EachForItself,
            ..fleet.clone()
        };
        let with_baseline = producers <= LARGEST_BASELINE;
        Ok(OfSize {
            producers,
            leases: simulate(&fleet)?,
            each_for_itself: with_baseline.then(|| simulate(&naive)).transpose()?,
        })
    };
    let fleets = args.producers.iter().map(of_size).collect::<Result<_>>()?;
    let long = Fleet {
        producers: args.cost_producers,
        ..settings.clone()
    };
    let cost = match args.cost_rollouts {
        0 => Vec::new(),
        rollouts => cost(&long, rollouts)?,
    };
    Ok(Results {
        settings,
        fleets,
        cost,
    })
}

fn settings(args: &FleetBenchArgs) -> Fleet {
    Fleet {
        seed: args.seed,
        rule: Rule::Leases,
        producers: 1,
        updates: args.updates,
        groups_per_update: args.groups_per_update,
        group_size: args.group_size,
        max_staleness: args.max_staleness,
        concurrent_groups: args.concurrent_groups,
        group_seconds: args.group_seconds,
        tail: args.tail,
        update_seconds: args.update_seconds,
        message_bytes: args.message_kib * 1024.0,
        weights_bytes: args.weights_mb * MB,
        churn: Churn {
            kill_every: args.kill_every,
            join_after: args.join_after,
            stop_every: args.stop_every,
            stop_for: args.stop_for,
        },
        capacities: Capacities {
            partitions: args.partitions,
            partition: args.partition_mb * MB,
            broker_out: args.broker_mb * MB,
            decode: args.decode_mb * MB,
            archive: args.archive_mb * MB,
            store: args.store_mb * MB,
            store_requests: args.store_requests,
            control_records: args.control_records,
            gate_wakes: args.gate_wakes,
            latency: args.latency_ms / 1e3,
        },
    }
}

fn text(results: &Results, args: &FleetBenchArgs) -> String {
    let settings = &results.settings;
    let mut out = format!(
        "{} updates of {} groups of {}, up to {} updates old, seed {}; virtual time\n\n\
         {:>9} {:>9} {:>9} {:>6} {:>15} {:>17} {:>8} {:>8} {:>8}  {}\n",
        settings.updates,
        settings.groups_per_update,
        settings.group_size,
        settings.max_staleness,
        settings.seed,
        "producers",
        "updates/s",
        "groups/s",
        "idle",
        "staleness",
        "grants an update",
        "regrants",
        "rejected",
        "gate µs",
        "busiest parts",
    );
    for fleet in &results.fleets {
        out += &line(&fleet.producers.to_string(), &fleet.leases);
        if let Some(naive) = &fleet.each_for_itself {
            out += &line("for itself", naive);
        }
    }
    out += "\nidle: share of the producers' time without sampling; staleness: mean, 95th percentile, \
            maximum; gate: real time of the granter per slot\n";
    if !results.cost.is_empty() {
        out += &cost_text(&results.cost, args.cost_producers);
    }
    out
}

fn cost_text(cost: &[Stretch], producers: usize) -> String {
    let head = format!(
        "\nreal time as a run grows, {producers} producers, medians over updates\n\
         {:>12} {:>20} {:>14} {:>22}\n",
        "rollouts", "intake µs a rollout", "gate µs a slot", "lease books µs a slot"
    );
    let lines = cost.iter().map(|Stretch { rollouts, measured }| {
        format!(
            "{rollouts:>12} {:>20.2} {:>14.2} {:>22.2}\n",
            measured.intake_us_per_rollout, measured.gate_us_per_slot, measured.books_us_per_slot,
        )
    });
    std::iter::once(head).chain(lines).collect()
}

fn line(name: &str, outcome: &Outcome) -> String {
    let age = &outcome.staleness;
    let control = &outcome.control;
    let rejected: u64 = outcome.books.rejected.values().sum();
    let busiest: Vec<_> = outcome
        .busy
        .iter()
        .take(3)
        .map(|busy| format!("{} {:.0} %", busy.part, 100.0 * busy.share))
        .collect();
    format!(
        "{name:>9} {:>9.2} {:>9.1} {:>5.1}% {:>15} {:>17} {:>8} {rejected:>8} {:>8.1}  {}\n",
        outcome.updates_per_second,
        outcome.groups_per_second,
        100.0 * outcome.idle_share,
        format!("{:.1} {} {}", age.mean, age.p95, age.max),
        format!(
            "{:.0}, {}",
            control.grants_per_update,
            bytes(control.grant_bytes_per_update as u64)
        ),
        control.regranted,
        outcome.measured.gate_us_per_slot,
        busiest.join(", "),
    )
}
