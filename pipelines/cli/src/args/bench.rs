//! Arguments of `vintage bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use vintage_settings::Device;

use super::{CurateBenchArgs, FleetBenchArgs};

/// Measures the parts whose speed is promised.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

const BENCH_WEIGH: &str = "\
Example:
  vintage bench weigh --tokens 100000000 --output json";
const BENCH_TRANSPORT: &str = "\
Examples:
  vintage bench transport
  vintage bench transport --broker kafka-1:9092 --megabytes 4000 --passes 9";
const BENCH_CODEC: &str = "\
Example:
  vintage bench codec --rows 8 --tokens 2048";

/// Part to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measures M2PO's mask on one core, against sorting and against NumPy.
    #[command(after_long_help = BENCH_WEIGH)]
    Weigh {
        /// Largest batch, in tokens.
        #[arg(long, value_name = "N", default_value_t = 100_000_000)]
        tokens: usize,
    },
    /// Measures rollouts through a real Kafka, encoded to decoded, against the same bytes through
    /// bare librdkafka.
    #[command(after_long_help = BENCH_TRANSPORT)]
    Transport {
        /// Broker to use instead of one that is started for this, as host:port.
        #[arg(long, value_name = "ADDRESS")]
        broker: Option<String>,
        /// Payload of each pass, in MB (1e6 bytes).
        #[arg(long, value_name = "MB", default_value_t = 1000)]
        megabytes: usize,
        /// Number of times each of the two is measured, in turns.
        #[arg(long, value_name = "N", default_value_t = 7)]
        passes: usize,
        /// Rows of a message.
        #[arg(long, value_name = "N", default_value_t = 8)]
        rows: u16,
        /// Completion tokens of a row.
        #[arg(long, value_name = "N", default_value_t = 1024)]
        tokens: usize,
    },
    /// Measures encoding and decoding messages on one core, against copying their bytes.
    #[command(after_long_help = BENCH_CODEC)]
    Codec {
        /// Rows of a message.
        #[arg(long, value_name = "N", default_value_t = 8)]
        rows: u16,
        /// Completion tokens of a row.
        #[arg(long, value_name = "N", default_value_t = 2048)]
        tokens: usize,
        /// Duration of each measurement, in seconds.
        #[arg(long, value_name = "S", default_value_t = 1.0)]
        seconds: f64,
    },
    /// Measures draining a loaded topic to Parquet: the sink, what its guarantees cost, and a
    /// pyarrow script.
    Archive(ArchiveBenchArgs),
    /// Measures updates of a random model: tokens per second in f32 and bf16, the share of M2PO,
    /// memory.
    #[command(after_long_help = BENCH_UPDATE)]
    Update(UpdateBenchArgs),
    /// Measures sampling at several batches, in turns with transformers' generate on the same model.
    #[command(after_long_help = BENCH_GENERATE)]
    Generate(GenerateBenchArgs),
    /// Measures a version's bytes and seconds, whole and as a delta, in f32 and bf16, after real
    /// updates of a random model.
    #[command(after_long_help = BENCH_PUBLISH)]
    Publish(PublishBenchArgs),
    /// Simulates fleets of producers on a virtual clock: throughput, staleness, grants and the first
    /// bottleneck, with the program's own gate and intake.
    Fleet(FleetBenchArgs),
    /// Measures curators of a replay set over a sliding window: oracle calls and time of an update, and the
    /// value of the chosen set against lazy greedy.
    Curate(CurateBenchArgs),
    #[command(hide = true)]
    ArchiveArm(ArchiveArmArgs),
}

const BENCH_ARCHIVE: &str = "\
Examples:
  vintage bench archive --python target/python/bin/python
  vintage bench archive --broker localhost:9092 --megabytes 2000 --rounds 7 --output json

The same bytes, codec and syncs for all that write; each arm is a process of its own, and they take
turns. CPU seconds per GB of payload come first: wall time is as the machine has it.";

/// Arguments of `vintage bench archive`.
#[derive(Debug, Args)]
#[command(after_long_help = BENCH_ARCHIVE)]
pub(crate) struct ArchiveBenchArgs {
    /// Payload to load the topic with, in MB (1e6 bytes).
    #[arg(long, value_name = "MB", default_value_t = 1000)]
    pub(crate) megabytes: u64,
    /// Number of times each arm drains the topic.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rounds: u32,
    /// Level of Zstandard in every file.
    #[arg(long, value_name = "L", default_value_t = 1)]
    pub(crate) level: i32,
    /// Python with pyarrow and confluent-kafka.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: PathBuf,
    /// Arms to compare. [default: all]
    #[arg(long, value_enum, value_name = "ARM", value_delimiter = ',')]
    arms: Vec<BenchArm>,
    /// Brokers as host:port; if not given, one is started for this.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) broker: Option<String>,
    /// Folder to write files in, on the disk to be measured; they are removed afterwards.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
}

impl ArchiveBenchArgs {
    /// Returns the arms to compare, all unless chosen.
    pub(crate) fn arms(&self) -> Vec<BenchArm> {
        if self.arms.is_empty() {
            BenchArm::value_variants().to_vec()
        } else {
            self.arms.clone()
        }
    }
}

/// Program that drains the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchArm {
    /// Reads and decodes, and keeps nothing.
    Null,
    /// Sink of vintage.
    Vintage,
    /// Script with pyarrow and confluent-kafka.
    Pyarrow,
    /// Sink without syncs.
    NoFsync,
    /// Sink that renames files over existing ones.
    NoFence,
    /// Sink without syncs that renames files over existing ones.
    Neither,
}

const BENCH_PUBLISH: &str = "\
Examples:
  vintage bench publish
  vintage bench publish --shape qwen2.5-0.5b --lr 1e-6,1e-5 --output json

Weights and tokens are random. The shape of Qwen2.5-0.5B takes about 12 GB of memory.";

/// Arguments of `vintage bench publish`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PublishBenchArgs {
    /// Shape of the model.
    #[arg(long, value_enum, value_name = "SHAPE", default_value_t = PublishBenchShape::Small)]
    pub(crate) shape: PublishBenchShape,
    /// Learning rates.
    #[arg(long, value_name = "RATE", value_delimiter = ',', default_values_t = [1e-6, 1e-5])]
    pub(crate) lr: Vec<f64>,
    /// Updates before the measured one.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) warmup: usize,
    /// Completions of an update.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) rows: usize,
    /// Tokens of a row, half of them a prompt.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) tokens: usize,
}

/// Shape of a random model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PublishBenchShape {
    /// Width 256, 4 layers, 3.7 M parameters.
    Small,
    /// Qwen2.5-0.5B's: 494 M parameters.
    #[value(name = "qwen2.5-0.5b")]
    HalfBillion,
}

const BENCH_UPDATE: &str = "\
Examples:
  vintage bench update
  vintage bench update --python env/bin/python     PyTorch beside it, in turns
  RAYON_NUM_THREADS=1 vintage bench update         on one thread
  vintage bench update --device cuda --model models/Qwen2.5-0.5B --rows 64 --completion 512

Weights and tokens are random: of DIR only config.json is read.";

/// Arguments of `vintage bench update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateBenchArgs {
    /// Device that computes: cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: Device,
    /// Folder whose config.json says the model's shape. [default: width 256, 4 layers, 3.7 M]
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Completions of an update.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) rows: usize,
    /// Completions that follow one prompt.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) group: usize,
    /// Tokens of a prompt.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) prompt: usize,
    /// Tokens of a completion.
    #[arg(long, value_name = "N", default_value_t = 96)]
    pub(crate) completion: usize,
    /// Tokens that go through the model together.
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    pub(crate) micro_batch_tokens: usize,
    /// Keeps only each layer's input, as learner.recompute does.
    #[arg(long)]
    pub(crate) recompute: bool,
    /// Number of updates to time, after one that is not timed.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) updates: usize,
    /// Python with torch and transformers, to run the same updates in PyTorch on the same device, in
    /// turns: in f32, and on a GPU in bf16 too.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) python: Option<PathBuf>,
}

const BENCH_GENERATE: &str = "\
Examples:
  vintage bench generate
  vintage bench generate --model models/SmolLM2-135M-Instruct --python venv/bin/python --output json

Prompts are random tokens of one length, completions end at their length. With --ragged they end at
lengths of their own: here the next prompt takes the place of what has ended, a call of generate ends
with its longest. Both programs sample from
the whole vocabulary at temperature 1 with a key-value cache in float32; this program returns
log-probs too. The rows of a group share their prompt.";

/// Arguments of `vintage bench generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateBenchArgs {
    /// Model folder. [default: the tiny model with random weights]
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Numbers of completions that are sampled together.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 16, 64])]
    pub(crate) batch: Vec<usize>,
    /// Completions of each prompt.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) group: usize,
    /// Tokens of a prompt.
    #[arg(long, value_name = "N", default_value_t = 45)]
    pub(crate) prompt: usize,
    /// Tokens of a completion.
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) completion: usize,
    /// Samples this many times the batch, in completions of different lengths, from 1 token to those of
    /// a completion.
    #[arg(long, value_name = "N")]
    pub(crate) ragged: Option<usize>,
    /// Compute threads of each program. [default: the number of cores]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Number of times each program samples a batch, after one that is not timed.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Python with torch and transformers. [default: this program is measured alone]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) python: Option<PathBuf>,
}

/// Arguments of one arm, as `vintage bench archive` starts it.
#[derive(Debug, Args)]
pub(crate) struct ArchiveArmArgs {
    /// Arm to run.
    #[arg(value_enum)]
    pub(crate) arm: BenchArm,
    /// Brokers as host:port.
    pub(crate) broker: String,
    /// Topic to drain, already loaded.
    pub(crate) topic: String,
    /// Folder to write files in.
    pub(crate) out: PathBuf,
    /// Level of Zstandard in every file.
    pub(crate) level: i32,
}
