//! Logging and metrics for every role: one subscriber, text or JSON lines, to wherever the program shows
//! things that are not data (standard error, above the progress bars).
//!
//! `RUST_LOG` is read as everywhere; `RUST_LOG=vintage=debug` covers every crate of ours.

mod metrics;

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

pub use self::metrics::{parse_address, serve};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// The name on the command line.
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

/// What to log, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// How lines look.
    pub format: LogFormat,
    /// −1 or less: errors only; 0: warnings; 1: our own steps; 2: our details; 3: everybody's.
    pub verbosity: i8,
    /// Filter directives as in `RUST_LOG`; they win over `verbosity`.
    pub filter: Option<String>,
    /// Whether levels are coloured (text only).
    pub color: bool,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `RUST_LOG` is no filter.
    #[error("cannot read RUST_LOG {text:?}: {why}; for example RUST_LOG=vintage=debug")]
    Filter {
        /// Its text.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// The metrics cannot be served there.
    #[error(
        "cannot serve metrics at http://{address}/metrics: {why}; choose another \
         metrics.listen (--metrics), or leave it out"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        why: String,
    },
    /// A subscriber was there already.
    #[error("cannot set up logging twice in one process")]
    Twice,
}

/// Takes whole log lines.
pub type Sink = Arc<dyn Fn(&[u8]) -> io::Result<()> + Send + Sync>;

/// Sends every log line of the process to `sink` from now on.
///
/// # Errors
/// If the filter cannot be read, or logging was set up before.
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
            why: error.to_string(),
        })
}

#[derive(Clone)]
struct Lines {
    sink: Sink,
}

/// One log line, handed over whole when it is complete.
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
        // There is nobody left to tell that telling failed.
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
