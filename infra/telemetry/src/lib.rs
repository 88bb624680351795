//! Logging and metrics for every role.
//!
//! * [`init`] installs the process's one `tracing` subscriber. It passes text or JSON lines to a
//!   [`Sink`] of the program: standard error, above the progress bars.
//! * [`serve`] starts the listener with the metrics, health and live page of the process, which
//!   answers from a [`Status`].
//!
//! This crate does not read the environment. The program passes the value of `RUST_LOG` in
//! [`LogOptions::filter`]; `RUST_LOG=vintage=debug` covers every crate of this project.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use vintage_telemetry::{LogOptions, init, parse_address};
//!
//! let log = Arc::new(Mutex::new(Vec::new()));
//! let kept = Arc::clone(&log);
//! let sink = move |line: &[u8]| Ok(kept.lock().expect("a whole log").extend_from_slice(line));
//! init(&LogOptions::default(), Arc::new(sink))?;
//! tracing::warn!("the disk is almost full");
//! let text = String::from_utf8(log.lock().expect("a whole log").clone())?;
//! assert!(text.contains("the disk is almost full"));
//!
//! // The metrics of a run with `--metrics 9400`.
//! assert_eq!(parse_address("9400")?.to_string(), "127.0.0.1:9400");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod listener;
mod metrics;
mod status;

use std::{
    fmt, io,
    net::SocketAddr,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter,
    fmt::{MakeWriter, format::FmtSpan},
    util::SubscriberInitExt,
};

pub use self::{
    listener::{is_local, serve},
    metrics::parse_address,
    status::Status,
};

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// JSON, one object per line.
    Json,
}

impl LogFormat {
    /// Both formats.
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// Returns the format's name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| format!("no log format: {text:?}; use text or json"))
    }
}

/// Options of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Format of the lines.
    pub format: LogFormat,
    /// Verbosity. −1 or less: errors only; 0: warnings; 1: also steps of this project's crates
    /// (info); 2: their details (debug) and the steps of dependencies; 3 or more: everything
    /// (trace).
    pub verbosity: i8,
    /// Filter directives in the syntax of `RUST_LOG`; they take precedence over `verbosity` unless
    /// empty.
    pub filter: Option<String>,
    /// True if levels are coloured (text format only).
    pub color: bool,
}

/// Failure to set up logging or metrics.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Filter directives (`RUST_LOG`) that cannot be parsed.
    #[error("cannot read RUST_LOG {text:?}: {reason}; for example RUST_LOG=vintage=debug")]
    Filter {
        /// Text of the directives.
        text: String,
        /// Error of the parser.
        reason: String,
    },
    /// Address at which the endpoints cannot be served.
    #[error(
        "cannot serve metrics and health at http://{address}/: {reason}; choose another \
         metrics.listen (--metrics), or leave it out"
    )]
    Listen {
        /// Address to listen on.
        address: SocketAddr,
        /// Reason for the failure.
        reason: String,
    },
    /// Second subscriber in one process.
    #[error("cannot set up logging twice in one process")]
    Twice,
}

/// Receiver of whole log lines.
pub type Sink = Arc<dyn Fn(&[u8]) -> io::Result<()> + Send + Sync>;

/// Sends every log line of the process to `sink` from now on.
///
/// # Errors
/// [`Error::Filter`] if the filter cannot be parsed; [`Error::Twice`] if logging was set up before.
pub fn init(options: &LogOptions, sink: Sink) -> Result<(), Error> {
    let filter = filter(options)?;
    let writer = Lines { sink };
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(writer);
    let set = match options.format {
        LogFormat::Text => base
            .with_ansi(options.color)
            .with_target(false)
            .finish()
            .try_init(),
        LogFormat::Json => base.json().with_current_span(false).finish().try_init(),
    };
    set.map_err(|_| Error::Twice)
}

fn filter(options: &LogOptions) -> Result<EnvFilter, Error> {
    let Some(text) = options.filter.as_deref().filter(|text| !text.is_empty()) else {
        let directives = match options.verbosity {
            i8::MIN..=-1 => "error",
            0 => "warn",
            1 => "warn,vintage=info",
            2 => "info,vintage=debug",
            3.. => "trace",
        };
        return Ok(EnvFilter::builder()
            .with_default_directive(LevelFilter::WARN.into())
            .parse_lossy(directives));
    };
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| Error::Filter {
            text: text.to_owned(),
            reason: error.to_string(),
        })
}

#[derive(Clone)]
struct Lines {
    sink: Sink,
}

/// Log line under construction, passed on whole when it is complete.
struct Line {
    sink: Sink,
    bytes: Mutex<Vec<u8>>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            sink: Arc::clone(&self.sink),
            bytes: Mutex::default(),
        }
    }

    fn make_writer_for(&'a self, _: &Metadata<'_>) -> Line {
        self.make_writer()
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = self.bytes.get_mut().unwrap_or_else(PoisonError::into_inner);
        line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = self.bytes.get_mut().unwrap_or_else(PoisonError::into_inner);
        if line.is_empty() {
            return Ok(());
        }
        (self.sink)(&std::mem::take(line))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // A failure to log cannot be reported anywhere.
        let _unheard = io::Write::flush(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbosity_and_rust_log_choose_what_is_logged() {
        let levels = |verbosity, text: Option<&str>| {
            let options = LogOptions {
                verbosity,
                filter: text.map(str::to_owned),
                ..LogOptions::default()
            };
            filter(&options).map(|filter| filter.to_string())
        };
        assert_eq!(levels(-1, None).expect("valid"), "error");
        assert_eq!(levels(0, None).expect("valid"), "warn");
        assert!(levels(1, None).expect("valid").contains("vintage=info"));
        assert!(
            levels(0, Some("vintage=debug"))
                .expect("valid")
                .contains("vintage=debug")
        );
        assert!(matches!(
            levels(0, Some("vintage=loud")),
            Err(Error::Filter { .. })
        ));
    }

    #[test]
    fn lines_arrive_whole_and_only_those_wanted() {
        let lines = Arc::new(Mutex::new(Vec::<String>::new()));
        let kept = Arc::clone(&lines);
        let sink: Sink = Arc::new(move |bytes: &[u8]| {
            let line = String::from_utf8_lossy(bytes).into_owned();
            kept.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
            Ok(())
        });
        let options = LogOptions {
            format: LogFormat::Json,
            ..LogOptions::default()
        };
        init(&options, Arc::clone(&sink)).expect("the first");
        tracing::warn!(groups = 3, "rejected");
        tracing::info!("not wanted");
        assert!(matches!(init(&options, sink), Err(Error::Twice)));
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].contains("\"groups\":3") && lines[0].ends_with('\n'),
            "{lines:?}"
        );
    }

    #[test]
    fn formats_have_names() {
        for format in LogFormat::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        assert!("xml".parse::<LogFormat>().is_err());
    }
}
