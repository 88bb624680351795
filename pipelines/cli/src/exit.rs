//! From how a command ended to an exit code and an `error:` line.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};

use vintage_bus::Fault;
use vintage_flow::config::ConfigError;

/// How a command ended, short of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what was asked.
    Done,
    /// It checked what was asked, and the answer is no.
    Negative,
    /// A signal ended it before its work was done.
    Interrupted(Signal),
}

/// Signals that end a run in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// ^C.
    Interrupt,
    /// What a supervisor sends.
    Terminate,
}

impl Outcome {
    /// Its exit code.
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::Negative => 3,
            Self::Interrupted(Signal::Interrupt) => 130,
            Self::Interrupted(Signal::Terminate) => 143,
        })
    }
}

/// The words or files given are at fault; exit code 2.
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

/// Tells what went wrong on standard error, and the exit code for it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        // Whoever read our output has read enough.
        return Outcome::Done.code();
    }
    // If standard error is closed, the exit code still tells.
    let _unheard = io::stderr().write_all(message(error).as_bytes());
    ExitCode::from(if is_usage(error) { 2 } else { 1 })
}

/// `error: what`, the causes that say more, and a hint.
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
        cause.is::<Usage>()
            || cause.is::<ConfigError>()
            || cause
                .downcast_ref::<vintage_flow::Error>()
                .is_some_and(vintage_flow::Error::is_usage)
            || cause
                .downcast_ref::<vintage_bus::Error>()
                .is_some_and(|error| matches!(error.fault(), Fault::User))
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        kind.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use vintage_flow::config::{Layers, RunConfig};

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
    fn a_reader_that_has_enough_is_no_error() {
        let closed: Result<(), _> = Err(io::Error::from(io::ErrorKind::BrokenPipe));
        let error = closed.context("cannot print").expect_err("closed");
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&config_error()));
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
