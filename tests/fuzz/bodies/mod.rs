//! Bodies of the fuzz targets. libFuzzer drives one of these files at a time; the workspace's tests
//! run the kept corpora through all of them.
//!
//! A body panics if a guarantee is broken, and returns true if the bytes were accepted.

mod answer;
mod config;
mod footer;
mod headers;
mod message;

/// Name of a target, which is also that of its corpus, and its body.
pub(crate) type Target = (&'static str, fn(&[u8]) -> bool);

/// All fuzz targets.
pub(crate) const TARGETS: &[Target] = &[
    ("answer", answer::body),
    ("config", config::body),
    ("footer", footer::body),
    ("headers", headers::body),
    ("message", message::body),
];
