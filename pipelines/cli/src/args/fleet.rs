//! Arguments of `vintage bench fleet`.

use clap::Args;

const EXAMPLES: &str = "\
Examples:
  vintage bench fleet
  vintage bench fleet --producers 64,1024 --group-seconds 60 --update-seconds 30 --weights-mb 3000
  vintage bench fleet --output json --seed 7

Gate, grants, leases and the learner's intake are the program's own code; sampling, network and
updates are simulated on a virtual clock. A baseline without the bound for all is simulated for
fleets of up to 64. Defaults marked \"measured\" are of docs/measurements.md: running sums, on two
cores of a shared virtual machine. Those marked \"assumed\" were not measured. What a seed gives is
always the same, except real times (\"measured\" and \"cost\" in JSON).";

/// Arguments of `vintage bench fleet`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct FleetBenchArgs {
    /// Sizes of the fleets, from 1 on.
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "1,4,16,64,256,1024,4096"
    )]
    pub(crate) producers: Vec<usize>,
    /// Seed of all random times.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Updates of each simulated run.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) updates: u64,
    /// Groups of an update; default of learner.prompts_per_update.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) groups_per_update: u64,
    /// Rollouts of a group; default of rollout.group_size.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) group_size: u16,
    /// Bound of staleness; default of gate.max_staleness.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) max_staleness: u64,
    /// Groups that a producer samples together; default of rollout.concurrent_groups.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) concurrent_groups: usize,
    /// Mean time of sampling one group; those sampled together end with the last one. Measured: 36 s
    /// for 400 calls of 16 groups ("The built-in task").
    #[arg(long, value_name = "S", default_value_t = 0.09)]
    pub(crate) group_seconds: f64,
    /// Shape of the Pareto distribution of that time, above 1; inf = all the same. Assumed.
    #[arg(long, value_name = "A", default_value_t = 2.5)]
    pub(crate) tail: f64,
    /// Time of an update. Measured on a Xeon: 21.6 ms.
    #[arg(long, value_name = "S", default_value_t = 0.0216)]
    pub(crate) update_seconds: f64,
    /// Size of a message. Measured: 8 rows of 8 tokens (`vintage bench codec --tokens 8`).
    #[arg(long, value_name = "KIB", default_value_t = 6.1)]
    pub(crate) message_kib: f64,
    /// Size of a version's weights. Measured: of the decoder that `vintage run` trains without a model.
    #[arg(long, value_name = "MB", default_value_t = 0.4)]
    pub(crate) weights_mb: f64,
    /// Mean time until a producer is killed; 0 = never. Assumed, as the next three are.
    #[arg(long, value_name = "S", default_value_t = 300.0)]
    pub(crate) kill_every: f64,
    /// Time until another joins in its place.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub(crate) join_after: f64,
    /// Mean time until a producer is stopped; 0 = never.
    #[arg(long, value_name = "S", default_value_t = 300.0)]
    pub(crate) stop_every: f64,
    /// Time until it is continued; from 10 s on the lead counts it as gone.
    #[arg(long, value_name = "S", default_value_t = 15.0)]
    pub(crate) stop_for: f64,
    /// Partitions of the log; those of the transport benchmark.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) partitions: usize,
    /// Capacity of a partition, per second. Measured on a Xeon: 0.30 GB/s published to 4.
    #[arg(long, value_name = "MB", default_value_t = 75.0)]
    pub(crate) partition_mb: f64,
    /// Capacity of the brokers to send, rollouts and control records, per second. Measured on a Xeon: 0.52
    /// GB/s to bare clients.
    #[arg(long, value_name = "MB", default_value_t = 520.0)]
    pub(crate) broker_mb: f64,
    /// Capacity of a learner to consume, check and decode, per second. Measured on a Xeon: 0.44 GB/s.
    #[arg(long, value_name = "MB", default_value_t = 440.0)]
    pub(crate) decode_mb: f64,
    /// Capacity of an archive, per second; it holds nobody up. Measured on a Xeon: 198 MB/s.
    #[arg(long, value_name = "MB", default_value_t = 198.0)]
    pub(crate) archive_mb: f64,
    /// Capacity of the store, per second, in both directions. Assumed: a link of 10 Gbit/s.
    #[arg(long, value_name = "MB", default_value_t = 1250.0)]
    pub(crate) store_mb: f64,
    /// Requests that the store answers per second. Assumed: as Amazon S3 documents for reads of one
    /// prefix.
    #[arg(long, value_name = "N", default_value_t = 5500.0)]
    pub(crate) store_requests: f64,
    /// Grants and announcements that a producer can read per second; each reads those of all. Assumed.
    #[arg(long, value_name = "N", default_value_t = 100_000.0)]
    pub(crate) control_records: f64,
    /// Times that the granter can wake per second. Assumed; column "gate" has its real time.
    #[arg(long, value_name = "N", default_value_t = 10_000.0)]
    pub(crate) gate_wakes: f64,
    /// Time from the end of a transfer to the reader. Assumed.
    #[arg(long, value_name = "MS", default_value_t = 2.0)]
    pub(crate) latency_ms: f64,
    /// Rollouts of the run in which real time is measured; 0 = none.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) cost_rollouts: u64,
    /// Producers of that run.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) cost_producers: usize,
}
