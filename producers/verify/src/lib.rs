//! Answer checking: finds the final answer in a completion and compares it with the known one.
//!
//! Pure functions on text: no IO, no clock, no floats, bounded time. Which part of a completion is its
//! final answer is one decision for all kinds (`answer.rs`; `docs/answers.md` says in words which mark
//! wins); a kind of answer is a variant of [`AnswerKind`], which says what it takes from there and
//! how it compares.

mod announce;
mod answer;
mod boxes;
mod decimal;
mod extract;
mod heading;
mod kind;
mod last;
mod math;
mod number;
mod scan;
mod sentence;
mod thought;

pub use extract::{boxed, hashes, last_number};
pub use kind::{BadAnswer, Verdict, check, is_correct, is_correct_after};
pub use number::Number;
pub use vintage_settings::AnswerKind;
