//! What each fuzz target does with its bytes; libFuzzer drives one of these files at a time, the
//! workspace's tests run the kept corpora through all.
//!
//! A body panics where a promise is broken, and returns whether the bytes were accepted.

mod answer;
mod config;
mod footer;
mod headers;
mod message;

/// A target's name, which is also its corpus', and its body.
pub(crate) type Target = (&'static str, fn(&[u8]) -> bool);

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    ("answer", answer::body),
    ("config", config::body),
    ("footer", footer::body),
    ("headers", headers::body),
    ("message", message::body),
];
