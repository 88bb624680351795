//! Answer checking: finds the final answer in a completion and compares it with the known one.
//!
//! Pure functions on text: no IO, no clock, no floats, bounded time. A kind of answer is a variant of
//! [`AnswerKind`]; what it extracts and how it compares lie in modules of their own, so that a
//! further kind adds one of each.

mod decimal;
mod extract;
mod kind;
mod math;
mod number;
mod scan;

pub use extract::{boxed, hashes, last_number};
pub use kind::{AnswerKind, BadAnswer, Verdict, is_correct};
pub use number::Number;
