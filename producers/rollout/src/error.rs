use std::{io, path::PathBuf};

use vintage_bus::Fault;

use crate::{command::MissingScript, engine::EngineError};

/// What stops a rollout producer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The prompt file cannot be read.
    #[error(
        "cannot read prompts from {}: {source}; give a file of one JSON object a line, such as \
         {{\"prompt\": \"2+2=\", \"answer\": \"4\"}}",
        path.display()
    )]
    PromptFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A row of the prompt file cannot be used.
    #[error("cannot use the prompt at {}:{line}: {reason}", path.display())]
    PromptRow {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Why, and what to do.
        reason: String,
    },
    /// The prompt file is empty.
    #[error(
        "no prompts in {}; write one JSON object a line, such as {{\"prompt\": \"2+2=\", \
         \"answer\": \"4\"}}",
        path.display()
    )]
    NoPrompts {
        /// Which file.
        path: PathBuf,
    },
    /// A setting is out of range.
    #[error("cannot use {}: {}", .0.key, .0.why)]
    Config(vintage_settings::Violation),
    /// The gate's settings contradict the learner's.
    #[error("cannot set up the gate: {reason}")]
    Gate {
        /// Why, and what to do.
        reason: String,
    },
    /// The reward command does not start.
    #[error(
        "cannot start the reward command `{command}` in {}: {source}; check \
         rollout.reward.command and rollout.reward.directory",
        directory.display()
    )]
    RewardStart {
        /// The command line.
        command: String,
        /// Where it was to run.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the reward command was changed under the run.
    #[error(
        "cannot start the reward command `{command}` again: {} was changed since the run started \
         it first; put it back and start again, or start again and accept the change by --accept \
         rollout.reward.command",
        path.display()
    )]
    RewardChanged {
        /// The command line.
        command: String,
        /// Which file.
        path: PathBuf,
    },
    /// The reward command names a script that is not there.
    #[error(
        "cannot start the reward command `{command}`: there is no {} in {} ({}); correct the name, \
         give the whole path, or set rollout.reward.directory to its folder",
        missing.script,
        missing.directory.display(),
        missing.instead()
    )]
    RewardScript {
        /// The command line.
        command: String,
        /// Which script, and where it was looked for.
        missing: MissingScript,
    },
    /// A completion cannot be written as JSON.
    #[error("cannot write a question to the reward command: {source}")]
    RewardQuestion {
        /// Why.
        source: serde_json::Error,
    },
    /// The reward command fails however often it is restarted.
    #[error(
        "gave up on the reward command `{command}` after {restarts} restarts in a row: {last}; \
         run it by hand on one line of JSON, or raise rollout.reward.max_restarts"
    )]
    RewardGaveUp {
        /// The command line.
        command: String,
        /// Restarts in a row.
        restarts: u32,
        /// What went wrong last.
        last: String,
    },
    /// Too many groups got no reward.
    #[error(
        "no reward for {failed} of {tried} groups ({reasons}), the last because {last}; mend the \
         reward, or raise rollout.reward.max_failed_groups or rollout.reward.max_failed_share"
    )]
    RewardFailures {
        /// Groups without a reward.
        failed: u64,
        /// Groups judged.
        tried: u64,
        /// Counts by reason.
        reasons: String,
        /// The last one's detail.
        last: String,
    },
    /// The engine failed.
    #[error("engine {engine} cannot {attempted}: {source}")]
    Engine {
        /// Which engine.
        engine: String,
        /// What it was to do.
        attempted: String,
        /// Why.
        source: EngineError,
    },
    /// The engine answered with something else than what was asked.
    #[error("engine {engine} returned {found} where {expected} were asked for; this is its bug")]
    EngineAnswer {
        /// Which engine.
        engine: String,
        /// What came.
        found: String,
        /// What was asked.
        expected: String,
    },
    /// The learner trains another number of groups than this producer was told.
    #[error(
        "the learner of policy {policy} takes {announced} groups an update, this producer was set \
         to {configured}; give both the same setting"
    )]
    GroupsPerUpdate {
        /// The lineage.
        policy: String,
        /// What the learner says.
        announced: u64,
        /// What was configured.
        configured: u64,
    },
    /// A group cannot be encoded.
    #[error(
        "cannot encode group {group} of prompt {prompt:?}: {source}; if it is too large, lower \
         max_tokens"
    )]
    Encode {
        /// The group.
        group: String,
        /// Its prompt's id.
        prompt: String,
        /// Why.
        source: Box<vintage_trajectory::Error>,
    },
    /// The log refused or lost contact.
    #[error("cannot {attempted}: {source}")]
    Bus {
        /// What was attempted.
        attempted: String,
        /// Why.
        source: Box<vintage_bus::Error>,
    },
    /// A journal of acknowledged numbers cannot be kept or read.
    #[error(
        "cannot {action} the journal {}: {source}; make room or mend the folder, then start again",
        path.display()
    )]
    Journal {
        /// `create`, `extend` or `read`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A journal holds something else than numbers.
    #[error(
        "cannot read the journal {}:{line}: {text:?} is not a number; the file was changed by \
         something else",
        path.display()
    )]
    JournalLine {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
    /// A part of the producer panicked.
    #[error("the producer's {stage} stage panicked: {source}; this is a bug, please report it")]
    Panicked {
        /// Which part.
        stage: &'static str,
        /// How.
        source: tokio::task::JoinError,
    },
}

impl Error {
    /// Wraps an error of the log.
    pub(crate) fn bus(attempted: impl Into<String>) -> impl FnOnce(vintage_bus::Error) -> Self {
        let attempted = attempted.into();
        move |source| Self::Bus {
            attempted,
            source: Box::new(source),
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::PromptFile { .. }
            | Self::PromptRow { .. }
            | Self::NoPrompts { .. }
            | Self::Config(_)
            | Self::Gate { .. }
            | Self::RewardStart { .. }
            | Self::RewardChanged { .. }
            | Self::RewardScript { .. }
            | Self::GroupsPerUpdate { .. } => Fault::User,
            Self::RewardGaveUp { .. }
            | Self::RewardFailures { .. }
            | Self::Engine { .. }
            | Self::Journal { .. }
            | Self::JournalLine { .. } => Fault::External,
            Self::RewardQuestion { .. }
            | Self::EngineAnswer { .. }
            | Self::Encode { .. }
            | Self::Panicked { .. } => Fault::Internal,
            Self::Bus { source, .. } => source.fault(),
        }
    }

    /// Whether the same attempt may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Bus { source, .. } if source.is_retryable())
    }
}
