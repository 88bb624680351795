//! Arguments of the verbs.
use std::{convert::Infallible, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use vintage_settings::Device;

use super::{ConfigArgs, SelectionArgs, candidates};

const RUN: &str = "\
Examples:
  vintage run                            the built-in task on the embedded broker
  vintage run --out runs/a               a run with a name; started again, it resumes
  vintage run --prompts mine.jsonl --set rollout.reward.kind=number
  vintage run --broker local             the same over a real Apache Kafka
  vintage run --preset stale-256         every rollout 256 updates old
  vintage run --output json --quiet | jq .final_accuracy

DIR holds config.toml, plans/, results/, evaluations/, archive/, weights/, checkpoints/,
summary.json and report.html. `vintage config show --origin` lists every setting.";

/// Trains a model with all roles in one process, on the embedded broker by default.
///
/// Brings up a broker, samples rollouts within the limits of `[gate]`, trains on them
/// however stale they are, keeps every rollout in a Parquet archive, and evaluates on held-out
/// prompts. Killed at any moment and started again with the same --out, it resumes.
#[derive(Debug, Args)]
#[command(after_long_help = RUN)]
pub(crate) struct RunArgs {
    /// Folder of the run. [default: runs/<time>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Number of updates in all after which it ends (setting `learner.steps`).
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<u64>,
    /// Prompts to train on: JSON lines, also under gzip, or Parquet, with `prompt` and `answer` or as
    /// published (setting `prompts.train`, which takes several files too).
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,
    /// Prompts to evaluate on (setting `prompts.heldout`).
    #[arg(long, value_name = "FILE")]
    pub(crate) heldout: Option<PathBuf>,
    /// Setting whose files may have changed since the run began: prompts.train, prompts.heldout,
    /// rollout.reward.command or model.path; may be repeated.
    #[arg(long, value_name = "SETTING")]
    pub(crate) accept: Vec<String>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

const ROLES: &str = "\
Examples, one process each, on any machines that share the broker and the folder:
  vintage broker up
  vintage learn   --broker localhost:9092 --out /shared/run-a
  vintage archive --broker localhost:9092 --out /shared/run-a
  vintage rollout --broker localhost:9092 --out /shared/run-a

The settings are those of `learn`, which writes them to the folder's config.toml: the other roles wait
for that file, and take it as their base. Where --set run=NAME names topics that the broker has and the
folder has no config.toml, archive and rollout go by their own settings.";

/// Produces rollouts as one process of a run: samples, scores and publishes them.
///
/// Waits for the first announced policy version, then follows the announcements. Ends when the
/// learner has finished, or at the first ^C once the work in progress is published.
#[derive(Debug, Args)]
#[command(after_long_help = ROLES)]
pub(crate) struct RolloutArgs {
    /// Setting in which this producer may differ from its run, from a folder of its own:
    /// rollout.max_tokens (if it is lower) or rollout.temperature; may be repeated.
    #[arg(long, value_name = "SETTING")]
    pub(crate) accept: Vec<String>,
    #[command(flatten)]
    pub(crate) role: RoleArgs,
}

const LEARN: &str = "\
Examples:
  vintage learn --out runs/a --broker localhost:9092               the lead of a run
  vintage learn --out runs/a --name b --set learner.optimizer.lr=1e-5
                                           beside it, on the same rollouts, from version 0
  vintage learn --out runs/a --name b --start latest
  vintage learn --out runs/a --name c --follow-plans lead --set algorithm=grpo
                                           on the very batches the lead trains on
  vintage learn --out runs/a --name d --set learner.source=archive
                                           after every topic has expired";

/// Trains on published rollouts, as one process of a run.
///
/// Under another --name than the run's own learner it is a follower: it has its own plans, results,
/// checkpoints, policy and settings (DIR/learners/NAME/config.toml), and does not affect the
/// others.
#[derive(Debug, Args)]
#[command(after_long_help = LEARN)]
pub(crate) struct LearnArgs {
    /// Name of a follower of the run in DIR; the run's own learner if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<vintage_control::Name>,
    /// Position at which it begins, if it never ran: earliest, latest, offset=P:O,…,
    /// time=2026-01-31T12:00:00Z or version=V (setting `learner.start`).
    #[arg(long, value_name = "START", conflicts_with = "follow_plans")]
    pub(crate) start: Option<String>,
    /// Learner whose planned batches it trains on (setting `learner.follow_plans`).
    #[arg(long, value_name = "NAME")]
    pub(crate) follow_plans: Option<vintage_control::Name>,
    /// Number of updates in all after which it ends (setting `learner.steps`).
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<u64>,
    /// Setting whose files may have changed since the run began: prompts.train, prompts.heldout,
    /// rollout.reward.command or model.path; may be repeated.
    #[arg(long, value_name = "SETTING")]
    pub(crate) accept: Vec<String>,
    #[command(flatten)]
    pub(crate) role: RoleArgs,
}

/// Keeps every rollout in Parquet files, as one process of a run.
///
/// Continues until it is stopped; the first ^C closes the open files.
#[derive(Debug, Args)]
#[command(after_long_help = ROLES)]
pub(crate) struct ArchiveArgs {
    /// Continues after records that the topic's retention deleted before they were archived; the
    /// gap is noted in the next file's footer.
    #[arg(long)]
    pub(crate) accept_gap: bool,
    #[command(flatten)]
    pub(crate) role: RoleArgs,
}

/// Arguments of every single role.
#[derive(Debug, Clone, Args)]
pub(crate) struct RoleArgs {
    /// Folder of the run, shared by its roles.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

const REPLAY: &str = "\
Examples:
  vintage replay --exact runs/a
  vintage replay --exact runs/a --output json
    {\"updates\":400,\"identical\":true,\"weights_sha256\":\"…\"}
  vintage replay runs/a --to vintage.again.rollouts.v1 --broker localhost:9092
  vintage replay runs/a --to easy --broker localhost:9092 --reward 0.5.. --prompt 'gsm8k-*' --rate 50
  vintage replay runs/a --to tenth --broker local --versions 3..9 --sample 0.1 --seed 1

Exit code 3 if a version comes out differently, or if a plan is missing though results,
checkpoints, weights, evaluations, archived tokens or the summary are of later updates; the first
update that does is named. Updates are numbered from 0: update N made version N + 1.
Exit code 2 if --to would publish nothing: no group passes the filters, or one names what the
archive does not hold.
Killed and started again with the same arguments, --to continues where the topic ends.";

/// Runs a recorded training again, or publishes its archived rollouts again.
///
/// With --exact every version is computed again from archive, plans and version 0, and compared,
/// bit for bit, with the recorded one. Nothing in the folder is changed, and a copy with archive/,
/// plans/ and weights/*/0/ is enough.
///
/// With --to the archive's groups go to a topic of their own, in their order and partitions, with
/// their keys, headers, version tags and times; headers replay-of, replay-from and replay-selection
/// say where each comes from. The topic is created if it is not there, and keeps them for ever.
#[derive(Debug, Args)]
#[command(after_long_help = REPLAY, disable_version_flag = true)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["exact", "to"]))]
pub(crate) struct ReplayArgs {
    /// Compares every version bit for bit.
    #[arg(long, conflicts_with_all = ["SelectionArgs", "ConfigArgs"])]
    pub(crate) exact: bool,
    /// Topic to publish the archived rollouts to.
    #[arg(long, value_name = "TOPIC")]
    pub(crate) to: Option<String>,
    /// Folder of the run.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Learner whose plans are run; the lead if not given.
    #[arg(long, value_name = "NAME", alias = "learner", conflicts_with = "to")]
    pub(crate) name: Option<vintage_control::Name>,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// Refused name of the versions, which would print the program's own.
    #[arg(long = "version", hide = true, num_args = 0..=1, default_missing_value = "", value_parser = no_replay_version)]
    _version: Option<Infallible>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Refuses `replay --version`, whatever its value.
fn no_replay_version(_value: &str) -> Result<Infallible, &'static str> {
    Err(
        "groups are chosen by --versions A..B, beside --to; `vintage --version` prints the program's",
    )
}

const AUDIT: &str = "\
Examples:
  vintage audit runs/a                               every group accounted for, or exit code 3
  vintage audit runs/a --deep                        and every byte of the archive read
  vintage audit runs/a --update 17                   which rollouts trained update 17
  vintage audit runs/a --rollout local-3f2a/118      why this one was not trained
  vintage audit --broker kafka:9092 --set store=s3://bucket/run-a --set run=a
  vintage audit runs/a --output json | jq .learners.lead.lost

Updates are numbered from 0: the first of 60 is 0, the last 59, and update N made version N + 1.

Exit code 3 if the books do not hold, or if nothing is known of the rollout that was asked for;
2 if there is nothing to audit, or no such learner or update.";

/// Accounts for every rollout: produced = trained + rejected + in flight + lost.
///
/// Producers' journals, the log, the archive, plans, results, checkpoints and what learners
/// announced are read and compared with one another, for each learner. Nothing is changed, and the
/// run may continue meanwhile.
#[derive(Debug, Args)]
#[command(after_long_help = AUDIT)]
pub(crate) struct AuditArgs {
    /// Folder of the run; without it, the settings `store`, `broker`, `run` and `namespace` say
    /// where things are.
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Learner to audit; all if not given.
    #[arg(long, value_name = "NAME", alias = "learner")]
    pub(crate) name: Option<vintage_control::Name>,
    /// Update whose rollouts are listed, counted from 0 as the files of plans/ and results/ are:
    /// update N made version N + 1.
    #[arg(long, value_name = "N", conflicts_with = "rollout")]
    pub(crate) update: Option<u64>,
    /// Group whose fate is shown: PRODUCER/NUMBER, its id of 32 hexadecimal digits, or one of its
    /// records as INCARNATION/PARTITION/OFFSET.
    #[arg(long, value_name = "ROLLOUT")]
    pub(crate) rollout: Option<vintage_audit::Rollout>,
    /// Leave the broker alone: journals, archive and records only.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Reads every byte of the archive and compares each group with its plan; reads all published
    /// weights, and compares them with their manifests.
    #[arg(long)]
    pub(crate) deep: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

const WEIGH: &str = "\
Examples:
  vintage weigh cases.jsonl
  vintage weigh --variant areal - < cases.jsonl
  vintage weigh --device cuda cases.jsonl         exit code 3 if any differs from the reference

Exit code 3 if a case is refused (its line says why), 2 if there is none.

A case: {\"id\": \"a\", \"threshold\": 0.04, \"logprob_new\": […], \"logprob_behav\": […],
\"advantages\": […], \"loss_mask\": […]}. Output is JSON lines whatever --output says.";

/// Computes M2PO's mask, loss and gradient weights for plain numbers.
#[derive(Debug, Args)]
#[command(after_long_help = WEIGH)]
pub(crate) struct WeighArgs {
    /// Cases, one JSON object per line; - is standard input.
    #[arg(value_name = "CASES.jsonl")]
    pub(crate) cases: PathBuf,
    /// Variant of the algorithm.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) variant: Variant,
    /// Device, cuda or cuda:N, that weighs by the paper's rule in f32, as a learner does; results
    /// are compared with the reference.
    #[arg(long, value_name = "DEVICE", conflicts_with = "variant")]
    pub(crate) device: Option<Device>,
}

/// Variant of M2PO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// Algorithm 1 of the paper.
    #[default]
    Paper,
    /// Implementation of AReaL.
    Areal,
    /// Code that the authors released.
    Fork,
}

const PARITY: &str = "\
Examples:
  vintage parity models            every NAME/ of the folder that has a NAME.oracle/ beside it
  vintage parity models/qwen3      one model, its oracle in models/qwen3.oracle
  vintage parity models --output json | jq '.models[].quantities[] | select(.holds | not)'

An oracle holds what another implementation computed: ARCHITECTURE.md says where its layout is
described. Bounds are built in; DIR/tolerances.json may say what transformers itself is off in
float32, of which five times is allowed. What an oracle lacks is noted and not compared. Exit
code 3 if anything is out of bounds, or if an oracle has no model; 2 if nothing can be compared.";

/// Compares models and their training with another implementation's results.
///
/// Token ids, rendered chat, logits, log-probs at every temperature, greedy continuations, the M2PO
/// loss with its mask and counts, the gradient of every parameter and its norm, and the parameters
/// after AdamW's steps, each with its largest error and the bound on it.
#[derive(Debug, Args)]
#[command(after_long_help = PARITY)]
pub(crate) struct ParityArgs {
    /// Folder of Hugging Face folders with their oracles, or one of them.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Device that computes: cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: Device,
}

const EXPORT: &str = "\
Examples:
  vintage export runs/a --to models/a             the newest version, for transformers
  vintage export runs/a --to models/a-100 --policy-version 100
  vintage parity models/a                         where you have made an oracle of it";

/// Writes a version of a run's policy as a Hugging Face folder.
///
/// The weights are those published, in f32, with the config, tokenizer, chat template and
/// generation config that version 0 came with. transformers loads the folder as it is.
#[derive(Debug, Args)]
#[command(after_long_help = EXPORT, disable_version_flag = true)]
pub(crate) struct ExportArgs {
    /// Folder of the run.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Folder to write; must be empty or absent.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: PathBuf,
    /// Version of the policy; the newest if not given.
    #[arg(long, value_name = "N")]
    pub(crate) policy_version: Option<u64>,
    /// Refused name of the version, which would print the program's own.
    #[arg(long = "version", hide = true, num_args = 0..=1, default_missing_value = "", value_parser = no_policy_version)]
    _version: Option<Infallible>,
    /// Learner whose policy is written; the lead if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<vintage_control::Name>,
}

/// Refuses `--version` of a verb that takes a version of the policy, whatever its value.
pub(super) fn no_policy_version(_value: &str) -> Result<Infallible, &'static str> {
    Err("a version of the policy is --policy-version N; `vintage --version` prints the program's")
}

/// Topics of a run on a broker.
#[derive(Debug, Args)]
pub(crate) struct TopicsArgs {
    #[command(subcommand)]
    pub(crate) command: TopicsCommand,
}

const TOPICS_LIST: &str = "\
Example:
  vintage topics list --broker localhost:9092 --set run=a
  vintage topics list --out runs/a                          as that run has it";
const TOPICS_APPLY: &str = "\
Examples:
  vintage topics apply --broker localhost:9092 --dry-run
  vintage topics apply --broker kafka:9092 --set topics.partitions=16 --set topics.replication=3";

/// Actions on topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Shows the run's topics with their partitions and records.
    #[command(after_long_help = TOPICS_LIST)]
    List {
        /// Folder of the run, whose settings and local broker are used.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Creates the run's topics that are missing, and checks those that exist.
    #[command(after_long_help = TOPICS_APPLY)]
    Apply {
        /// Only prints what would be created.
        #[arg(long)]
        dry_run: bool,
        /// Folder of the run, whose settings and local broker are used.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

const DOCTOR: &str = "\
Examples:
  vintage doctor
  vintage doctor --broker localhost:9092 --out runs/a
  vintage doctor --model models/Qwen3-0.6B --preset lora --prompts gsm8k.jsonl

Exit code 3 if a check fails.";

/// Checks that this machine, the settings, the broker and the store can carry a run.
#[derive(Debug, Args)]
#[command(after_long_help = DOCTOR)]
pub(crate) struct DoctorArgs {
    /// Folder to check for free space and for safe writing.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) out: PathBuf,
    /// Folder of a model whose memory in training is predicted, item by item (setting
    /// `model.path`).
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Prompts to train on (setting `prompts.train`).
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,
    /// Prompts to evaluate on (setting `prompts.heldout`).
    #[arg(long, value_name = "FILE")]
    pub(crate) heldout: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Parts of the configuration to show.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    Show(ConfigShowArgs),
    Explain(ConfigExplainArgs),
    /// Lists the presets that ship with the program.
    Presets,
}

const CONFIG_EXPLAIN: &str = "\
Examples:
  vintage config explain gate.max_staleness   one setting
  vintage config explain learner.replay       a section
  vintage config explain lr                   every setting of that name";

/// Prints what settings mean, with their defaults.
#[derive(Debug, Args)]
#[command(after_long_help = CONFIG_EXPLAIN)]
pub(crate) struct ConfigExplainArgs {
    /// Setting, section, or last part of a setting's name; all if not given.
    #[arg(value_name = "KEY", add = candidates::of_keys())]
    pub(crate) key: Option<String>,
}

const INIT: &str = "\
Examples:
  vintage init                 vintage.toml in this folder
  vintage init mine.toml && vintage run -c mine.toml";

/// Writes a file with every setting, explained and commented out, to edit and pass with -c.
#[derive(Debug, Args)]
#[command(after_long_help = INIT)]
pub(crate) struct InitArgs {
    /// File to write; it must not exist.
    #[arg(value_name = "FILE", default_value = "vintage.toml")]
    pub(crate) file: PathBuf,
}

const CONFIG_SHOW: &str = "\
Examples:
  vintage config show                              every setting, as TOML
  vintage config show --origin -c mine.toml        and where each comes from
  vintage config show learner --preset stale-256   one section
  vintage config show > mine.toml                  to edit and pass with -c";

/// Prints the settings that result from all layers, as TOML.
#[derive(Debug, Args)]
#[command(after_long_help = CONFIG_SHOW)]
pub(crate) struct ConfigShowArgs {
    /// Setting or section to print; all if not given.
    #[arg(value_name = "KEY", add = candidates::of_keys())]
    pub(crate) key: Option<String>,
    /// Prints after each value where it comes from.
    #[arg(long)]
    pub(crate) origin: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

const COMPLETIONS: &str = "\
Examples:
  source <(vintage completions bash)        in ~/.bashrc
  source <(vintage completions zsh)         in ~/.zshrc, after compinit
  vintage completions fish | source         in ~/.config/fish/config.fish

The script asks the program for what may follow, names of presets and settings among it.";

/// Prints a shell's completion script.
#[derive(Debug, Args)]
#[command(after_long_help = COMPLETIONS)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete in.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}
