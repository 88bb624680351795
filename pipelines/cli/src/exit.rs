//! Exit codes and `error:` lines of commands.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};
use vintage_config::ConfigError;

use vintage_control::Fault;

/// Exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(u8);

impl Code {
    /// Ends the process with this code at once; whatever was printed must have been flushed.
    ///
    /// No exit handler and no destructor of a C library runs: clients of Kafka are destroyed on
    /// threads of their own, and what a handler frees they may still use while the process ends.
    pub(crate) fn leave(self) -> ! {
        #[expect(unsafe_code, reason = "the standard library has no such function")]
        // SAFETY: the function takes an integer by value and does not return.
        unsafe {
            libc::_exit(self.0.into())
        }
    }
}

/// Result of a command that ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandOutcome {
    /// The command did what was asked.
    Done,
    /// The command checked what was asked, and the check was negative.
    Negative,
    /// A signal ended the command before its work was done.
    Interrupted(Signal),
}

/// Signal that ends a run in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT, sent by ^C.
    Interrupt,
    /// SIGTERM, sent by supervisors.
    Terminate,
}

impl Signal {
    /// Returns the exit code of a command that the signal ended, as shells give it.
    pub(crate) fn code(self) -> Code {
        match self {
            Self::Interrupt => Code(130),
            Self::Terminate => Code(143),
        }
    }
}

impl CommandOutcome {
    /// Returns the exit code: 0, 3, 130 or 143.
    pub(crate) fn code(self) -> Code {
        match self {
            Self::Done => Code(0),
            Self::Negative => Code(3),
            Self::Interrupted(signal) => signal.code(),
        }
    }
}

/// Error of the arguments or files that the user gave; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Usage {
    what: String,
    hint: Option<String>,
}

impl Usage {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: None,
        }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Prints an error to standard error and returns its exit code, 2 for wrong usage and 1 otherwise.
pub(crate) fn report(error: &anyhow::Error) -> Code {
    // If standard error is closed, the exit code remains.
    let _unheard = io::stderr().write_all(message(error).as_bytes());
    Code(if is_usage(error) { 2 } else { 1 })
}

/// Prints a message of clap: help to standard output, wrong usage (exit code 2) to standard error.
pub(crate) fn clap_message(message: &clap::Error) -> Code {
    match message.print() {
        Err(error) if !message.use_stderr() && error.kind() != io::ErrorKind::BrokenPipe => {
            ended(CommandOutcome::Done, Some(&error))
        }
        _ if message.use_stderr() => Code(2),
        _ => CommandOutcome::Done.code(),
    }
}

/// Returns the exit code of a command that ended. If output was lost, prints that, and turns 0 into
/// 1.
pub(crate) fn ended(outcome: CommandOutcome, lost: Option<&io::Error>) -> Code {
    let Some(why) = lost else {
        return outcome.code();
    };
    let text = format!("error: cannot print to standard output: {why}; the output is incomplete\n");
    let _unheard = io::stderr().write_all(text.as_bytes());
    match outcome {
        CommandOutcome::Done => Code(1),
        outcome => outcome.code(),
    }
}

/// Formats an error as `error: what`, its causes as far as they add something, and a hint.
fn message(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        let cause = cause.trim_end();
        // Many errors quote their source in their own text.
        if said.contains(cause) {
            continue;
        }
        let _ = writeln!(text, "  because: {}", cause.replace('\n', "\n    "));
        cause.clone_into(&mut said);
    }
    if let Some(hint) = error.chain().find_map(hint) {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(usage) = error.downcast_ref::<Usage>() {
        return usage.hint.clone();
    }
    match error.downcast_ref::<vintage_flow::Error>() {
        Some(vintage_flow::Error::Config(error)) => error.hint(),
        _ => error.downcast_ref::<ConfigError>()?.hint(),
    }
}

fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Usage>() || cause.is::<ConfigError>() || fault(cause) == Some(Fault::User)
    })
}

/// Returns the party at fault for an error of one of the program's crates.
fn fault(cause: &(dyn std::error::Error + 'static)) -> Option<Fault> {
    macro_rules! of {
        ($($krate:ident),*) => {
            $(if let Some(error) = cause.downcast_ref::<$krate::Error>() {
                return Some(error.fault());
            })*
        };
    }
    of!(
        vintage_flow,
        vintage_archive,
        vintage_audit,
        vintage_bench,
        vintage_bus,
        vintage_broker,
        vintage_experiment,
        vintage_store
    );
    None
}

#[cfg(test)]
mod tests {
    use vintage_config::Layers;
    use vintage_settings::RunConfig;

    use super::*;

    fn config_error() -> anyhow::Error {
        let layers = Layers::new().set("learner.stpes=3").expect("an assignment");
        layers.resolve::<RunConfig>().expect_err("unknown").into()
    }

    #[test]
    fn an_error_tells_what_why_and_what_to_do() {
        let expected = "error: unknown setting: learner.stpes (--set)\n\
                        hint: did you mean learner.steps?\n";
        assert_eq!(message(&config_error()), expected);
        assert!(is_usage(&config_error()));
        let wrapped = vintage_flow::Error::Config(
            config_error()
                .downcast::<ConfigError>()
                .expect("a configuration error"),
        );
        assert_eq!(message(&wrapped.into()), expected);
    }

    #[test]
    fn causes_are_told_once() {
        let cause = io::Error::other("disk full");
        let error = anyhow::Error::from(cause).context("cannot write a.json");
        assert_eq!(
            message(&error),
            "error: cannot write a.json\n  because: disk full\n"
        );
        let quoted = anyhow::Error::from(io::Error::other("disk full"))
            .context("cannot write a.json: disk full");
        assert_eq!(message(&quoted), "error: cannot write a.json: disk full\n");
        assert!(!is_usage(&error));
    }

    #[test]
    fn a_pipe_that_broke_inside_is_an_error_like_any_other() {
        let closed = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        let code = report(&closed.context("the reward command ended"));
        assert_eq!(code, Code(1));
    }

    #[test]
    fn lost_output_fails_only_what_else_was_done() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(ended(CommandOutcome::Done, None), Code(0));
        assert_eq!(ended(CommandOutcome::Done, Some(&full)), Code(1));
        assert_eq!(ended(CommandOutcome::Negative, Some(&full)), Code(3));
        let interrupted = CommandOutcome::Interrupted(Signal::Interrupt);
        assert_eq!(ended(interrupted, Some(&full)), Code(130));
    }

    #[test]
    fn a_users_error_that_the_archive_met_is_usage() {
        let no_topic = vintage_bus::Error::NoSuchTopic {
            topic: "t".to_owned(),
            bootstrap: "b:1".to_owned(),
        };
        let error = vintage_archive::Error::from(no_topic);
        assert!(is_usage(&error.into()));
    }

    #[test]
    fn usage_errors_carry_their_hint() {
        let error = Usage::new("no such folder: x")
            .hint("name a run's folder")
            .into();
        assert_eq!(
            message(&error),
            "error: no such folder: x\nhint: name a run's folder\n"
        );
        assert!(is_usage(&error));
    }
}
