//! Sets up standard error for log lines and progress, which must not garble each other.

use std::{env, io::IsTerminal as _, sync::Arc};

use crate::progress::{Display, Screen};
use anyhow::Result;
use vintage_telemetry::LogOptions;

use crate::{
    args::{LogFormat, ShownArgs},
    exit::Usage,
};

/// Starts logging; log lines appear above the progress bars.
pub(crate) fn start(args: &ShownArgs) -> Result<Screen> {
    let screen = Screen::new();
    let lines = screen.clone();
    let options = LogOptions {
        format: match args.log_format {
            LogFormat::Text => vintage_telemetry::LogFormat::Text,
            LogFormat::Json => vintage_telemetry::LogFormat::Json,
        },
        verbosity: if args.quiet {
            -1
        } else {
            i8::try_from(args.verbose).unwrap_or(i8::MAX)
        },
        filter: env::var("RUST_LOG").ok(),
        color: std::io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none(),
    };
    vintage_telemetry::init(&options, Arc::new(move |line: &[u8]| lines.write(line)))
        .map_err(|error| Usage::new(error.to_string()))?;
    Ok(screen)
}

/// Chooses how progress is shown: JSON beside JSON logs, bars on a terminal, lines elsewhere, nothing if
/// quiet.
pub(crate) fn display(args: &ShownArgs) -> Display {
    if args.quiet {
        Display::Silent
    } else if args.log_format == LogFormat::Json {
        Display::Json
    } else if std::io::stderr().is_terminal() {
        Display::Bars
    } else {
        Display::Lines
    }
}
