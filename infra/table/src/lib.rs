//! Rows of a data set's file as JSON text, one after the other: JSON lines, JSON lines under gzip, and
//! Parquet, which are told apart by their first bytes.
//!
//! Begin reading at [`Table`] (`table.rs`). `parquet.rs` reads the columns that are asked for, and
//! `json.rs` writes a row of them as the JSON object that a file of lines would have. `write.rs` writes
//! tables of this program as Parquet.
//!
//! ```
//! use vintage_table::Table;
//!
//! let mut table = Table::of("{\"prompt\": \"2+2=\"}\n".as_bytes(), &|_column| true)?;
//! let mut row = Vec::new();
//! assert!(table.next(&mut row)?);
//! assert_eq!(row, b"{\"prompt\": \"2+2=\"}\n");
//! assert!(!table.next(&mut row)?);
//! # Ok::<(), std::io::Error>(())
//! ```

mod hashed;
mod json;
mod parquet;
mod table;
mod write;

pub use table::Table;
pub use write::ParquetFile;
