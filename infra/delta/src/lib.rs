//! Deltas of weights: what changed from one safetensors file to another of the same layout.
//!
//! A step of the optimizer moves every value a little. In bf16 most moves are lost in rounding, so
//! few values change, mostly by one unit of the last place; in f32 nearly all change, in their low
//! bits. A delta holds the differences of the values' bit patterns and gives the new file's bytes
//! exactly. Everything here is a pure function of byte slices; `vintage-store` keeps the files.
//!
//! * [`encode`] makes a delta, [`apply`] turns the base's bytes into the new ones in place.
//! * [`merge`] makes the new file of a base and low-rank adapters, where those were all that changed.
//! * `piece.rs` is the encoding of up to [`PIECE`] values, `layout.rs` reads where a file's tensors
//!   lie, `file.rs` joins the pieces.
//!
//! ```
//! use vintage_control::Sha256;
//! use vintage_delta::{Ends, apply, encode};
//!
//! // A file with one tensor of two bf16 values.
//! let header = br#"{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}"#;
//! let file = |values: [u8; 4]| {
//!     let length = (header.len() as u64).to_le_bytes();
//!     [&length[..], header, &values].concat()
//! };
//! let (base, new) = (file([1, 63, 2, 63]), file([1, 63, 3, 63]));
//! let ends = Ends {
//!     base_sha256: Sha256([1; 32]),
//!     weights_sha256: Sha256([2; 32]),
//! };
//! let delta = encode(&base, &new, ends)?.expect("both have one layout");
//! let mut bytes = base;
//! apply(&mut bytes, &delta, ends)?;
//! assert_eq!(bytes, new);
//! # Ok::<(), vintage_delta::Error>(())
//! ```

mod error;
mod file;
mod layout;
mod low_rank;
mod piece;

pub use error::{Error, Result};
pub use file::{Ends, apply, encode};
pub use low_rank::{PEFT_PREFIX, merge, onto};
pub use piece::{PIECE, Width, decode as decode_piece, encode as encode_piece};
