use std::{io, path::PathBuf};

use vintage_control::Fault;

use crate::{
    command::{script::MissingScript, settings::CommandRole},
    engine::EngineError,
};

/// Failure that stops a rollout producer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Prompt file that cannot be read.
    #[error(
        "cannot read prompts from {}: {source}; prompts are JSON lines, also under gzip, or Parquet, \
         with rows such as {{\"prompt\": \"2+2=\", \"answer\": \"4\"}}",
        path.display()
    )]
    PromptFile {
        /// Path of the prompt file.
        path: PathBuf,
        /// Reason for the failure.
        source: io::Error,
    },
    /// Row of the prompt file that cannot be used.
    #[error("cannot use the prompt at {}:{line}: {reason}", path.display())]
    PromptRow {
        /// Path of the prompt file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// Reason for the refusal, and what to do.
        reason: String,
    },
    /// Prompt file without any prompt.
    #[error(
        "no prompts in {}; write one JSON object a line, such as {{\"prompt\": \"2+2=\", \
         \"answer\": \"4\"}}",
        path.display()
    )]
    NoPrompts {
        /// Path of the prompt file.
        path: PathBuf,
    },
    /// Column that the settings name and no row has.
    #[error(
        "no row of {files} has the column {column:?}, from which prompts.columns.{key} is to be read; \
         their columns are {keys}"
    )]
    PromptColumn {
        /// Key that is read from the column.
        key: &'static str,
        /// Column as the setting names it.
        column: String,
        /// Files of the set.
        files: String,
        /// Columns that there are.
        keys: String,
    },
    /// A setting is out of range.
    #[error("cannot use {}: {}", .0.key, .0.why)]
    Config(vintage_settings::Violation),
    /// Producer that the lead learner grants no slots.
    #[error("the lead learner refuses this producer: {reason}")]
    Refused {
        /// Reason for the refusal, and what to do.
        reason: String,
    },
    /// Report to the lead learner that cannot be written as JSON.
    #[error("cannot write a report to the lead learner: {source}")]
    Report {
        /// Reason for the failure.
        source: serde_json::Error,
    },
    /// Command that does not start.
    #[error(
        "cannot start the {role} `{command}` in {}: {source}; check {section}.command and \
         {section}.directory",
        directory.display(),
        section = role.section()
    )]
    CommandStart {
        /// Purpose of the command.
        role: CommandRole,
        /// Command line, joined by spaces.
        command: String,
        /// Directory in which the command was to run.
        directory: PathBuf,
        /// Reason for the failure.
        source: io::Error,
    },
    /// File of a command that was changed during the run.
    #[error(
        "cannot start the {role} `{command}` again: {} was changed since the run started it first; \
         put it back and start again, or start again and accept the change by --accept {}.command",
        path.display(),
        role.section()
    )]
    CommandChanged {
        /// Purpose of the command.
        role: CommandRole,
        /// Command line, joined by spaces.
        command: String,
        /// Path of the changed file.
        path: PathBuf,
    },
    /// Command whose script does not exist.
    #[error(
        "cannot start the {role} `{command}`: there is no {} in {} ({}); correct the name, give the \
         whole path, or set {}.directory to its folder",
        missing.script,
        missing.directory.display(),
        missing.instead(),
        role.section()
    )]
    CommandScript {
        /// Purpose of the command.
        role: CommandRole,
        /// Command line, joined by spaces.
        command: String,
        /// Missing script, with the directory from which its path was resolved.
        missing: MissingScript,
    },
    /// Completion that cannot be written as JSON for a command.
    #[error("cannot write a question to the {role}: {source}")]
    CommandQuestion {
        /// Purpose of the command.
        role: CommandRole,
        /// Reason for the failure.
        source: serde_json::Error,
    },
    /// Command that fails after every allowed restart.
    #[error(
        "gave up on the {role} `{command}` after {restarts} restarts in a row; run it by hand on one \
         line of JSON, or raise {}.max_restarts: {last}",
        role.section()
    )]
    CommandGaveUp {
        /// Purpose of the command.
        role: CommandRole,
        /// Command line, joined by spaces.
        command: String,
        /// Number of restarts in a row, without an answer in between.
        restarts: u32,
        /// Description of the last failure.
        last: String,
    },
    /// Environment command that has ended, after an error that was reported elsewhere.
    #[error("the environment command has ended; see the error before")]
    EnvironmentEnded,
    /// Too many groups whose reward failed.
    #[error(
        "no reward for {failed} of {tried} groups ({reasons}), the last because {last}; mend the \
         reward or the environment, or raise rollout.reward.max_failed_groups or rollout.reward.max_failed_share"
    )]
    RewardFailures {
        /// Number of groups without a reward.
        failed: u64,
        /// Number of groups judged, with and without a reward.
        tried: u64,
        /// Number of failed groups by reason.
        reasons: String,
        /// Description of the last failure.
        last: String,
    },
    /// Failure of the inference engine.
    #[error("engine {engine} cannot {attempted}: {source}")]
    Engine {
        /// Name and version of the engine.
        engine: String,
        /// Attempted action, such as "load version 3".
        attempted: String,
        /// Reason for the failure.
        source: EngineError,
    },
    /// Engine that fails group after group.
    #[error(
        "engine {engine} could not sample {groups} groups in a row, the last because {last}; mend \
         the server, or take another engine with rollout.engine"
    )]
    EngineGaveUp {
        /// Name and version of the engine.
        engine: String,
        /// Number of groups in a row without a sampled one in between.
        groups: u64,
        /// Description of the last failure.
        last: String,
    },
    /// Engine answer that does not match the request.
    #[error("engine {engine} returned {found} where {expected} were asked for; this is its bug")]
    EngineAnswer {
        /// Name of the engine or, for a group without completions, the producer's id.
        engine: String,
        /// Description of what the engine returned.
        found: String,
        /// Description of what was requested.
        expected: String,
    },
    /// Learner that trains another number of groups per update than this producer was set to.
    #[error(
        "the learner of policy {policy} takes {announced} groups an update, this producer was set \
         to {configured}; give both the same setting"
    )]
    GroupsPerUpdate {
        /// Name of the policy.
        policy: String,
        /// Groups per update that the learner announces.
        announced: u64,
        /// Groups per update that this producer was set to.
        configured: u64,
    },
    /// Group that cannot be encoded as messages.
    #[error(
        "cannot encode group {group} of prompt {prompt:?}: {source}; if it is too large, lower \
         max_tokens"
    )]
    Encode {
        /// Id of the group.
        group: String,
        /// Id of the group's prompt.
        prompt: String,
        /// Reason for the failure.
        source: Box<vintage_trajectory::Error>,
    },
    /// Failure of a Kafka operation.
    #[error("cannot {attempted}: {source}")]
    Bus {
        /// Attempted action, such as `follow` and the name of a topic.
        attempted: String,
        /// Reason for the failure, from the log client.
        source: Box<vintage_bus::Error>,
    },
    /// Journal of acknowledged numbers that cannot be written or read.
    #[error(
        "cannot {action} the journal {}: {source}; make room or mend the folder, then start again",
        path.display()
    )]
    Journal {
        /// Attempted action: `create`, `extend` or `read`.
        action: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// Reason for the failure.
        source: io::Error,
    },
    /// Line of a journal that is not a number.
    #[error(
        "cannot read the journal {}:{line}: {text:?} is not a number; the file was changed by \
         something else",
        path.display()
    )]
    JournalLine {
        /// Path of the journal.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// Text of the line.
        text: String,
    },
    /// Panic in one stage of the producer.
    #[error("the producer's {stage} stage panicked: {source}; this is a bug, please report it")]
    Panicked {
        /// Name of the stage.
        stage: &'static str,
        /// Panic, as reported by the async runtime.
        source: tokio::task::JoinError,
    },
}

impl Error {
    /// Wraps an error of the log client, adding the attempted action.
    pub(crate) fn bus(attempted: impl Into<String>) -> impl FnOnce(vintage_bus::Error) -> Self {
        let attempted = attempted.into();
        move |source| Self::Bus {
            attempted,
            source: Box::new(source),
        }
    }

    /// Party at fault: user, external system or this program.
    pub fn fault(&self) -> Fault {
        match self {
            Self::PromptFile { .. }
            | Self::PromptRow { .. }
            | Self::NoPrompts { .. }
            | Self::PromptColumn { .. }
            | Self::Config(_)
            | Self::Refused { .. }
            | Self::CommandStart { .. }
            | Self::CommandChanged { .. }
            | Self::CommandScript { .. }
            | Self::GroupsPerUpdate { .. } => Fault::User,
            Self::CommandGaveUp { .. }
            | Self::RewardFailures { .. }
            | Self::EnvironmentEnded
            | Self::Engine { .. }
            | Self::EngineGaveUp { .. }
            | Self::Journal { .. }
            | Self::JournalLine { .. } => Fault::External,
            Self::CommandQuestion { .. }
            | Self::Report { .. }
            | Self::EngineAnswer { .. }
            | Self::Encode { .. }
            | Self::Panicked { .. } => Fault::Internal,
            Self::Bus { source, .. } => source.fault(),
        }
    }

    /// Returns true if the same attempt may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Bus { source, .. } if source.is_retryable())
    }
}
