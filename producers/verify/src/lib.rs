//! Answer checking: finds the final answer in a completion and compares it with the known one.
//!
//! The crate consists of pure functions on text: no IO, no clock, no floats, bounded time.
//!
//! Begin reading at [`AnswerKind`] (`kind.rs`), the three ways to compare, and [`is_correct`],
//! which does it. Locating the final answer is one decision for all kinds (`answer.rs`);
//! `docs/answers.md` describes which mark wins. The marks are in `boxes.rs`, `heading.rs` (`####`),
//! `announce.rs` and `lead.rs` ("the answer is"), `last.rs` (no mark) and `thought.rs` (reasoning
//! tags). `stance.rs` decides what a sentence asserts, denies or supposes; `stated.rs` and `bold.rs`
//! find the value it states, `hedge.rs` whether it offers several. Numbers are read by `scan.rs`,
//! `runs.rs` (`10 000`), `scale.rs` (`million`) and `spelt.rs` (`three`) and compared by
//! [`Number::equals`]; mathematical answers are parsed and compared under `math/`, beginning at
//! `math.rs`.
//!
//! ```
//! use vintage_verify::{AnswerKind, is_correct};
//!
//! let verdict = is_correct(AnswerKind::Number, "4 boxes of 6. The answer is 24.", "24");
//! assert!(verdict.correct);
//! assert_eq!(verdict.extracted.as_deref(), Some("24"));
//!
//! let verdict = is_correct(AnswerKind::Math, r"\boxed{(0.5, 3)}", r"(\frac{1}{2},3)");
//! assert!(verdict.correct);
//! ```

mod announce;
mod answer;
mod bold;
mod boxes;
mod decimal;
mod denial;
mod extract;
mod heading;
mod hedge;
mod kind;
mod last;
mod lead;
mod math;
mod number;
mod runs;
mod scale;
mod scan;
mod sentence;
mod spelt;
mod stance;
mod stated;
mod talk;
mod thought;

pub use extract::{boxed, hashes, last_number};
pub use kind::{BadAnswer, Verdict, check, is_correct, is_correct_after};
pub use number::Number;
pub use vintage_settings::AnswerKind;
