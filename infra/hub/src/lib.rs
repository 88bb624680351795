//! Models by their names on the Hugging Face hub: names, the local cache, and the download of
//! what the cache lacks, in the layout that Hugging Face's own library uses.
//!
//! Begin with [`HubModel`], a name and its place in the cache. [`locate`] resolves a setting to a
//! folder without network access, and [`fetch_missing`] downloads what is missing. [`BaseModel`] is
//! the name as PEFT's adapter files record it.
//!
//! ```
//! use std::path::Path;
//! use vintage_hub::HubModel;
//!
//! let model = HubModel::of(Path::new("hf://Qwen/Qwen3-0.6B@main"))?.expect("a hub name");
//! assert_eq!(model.repository(), "Qwen/Qwen3-0.6B");
//! assert!(HubModel::of(Path::new("models/mine"))?.is_none());
//! # Ok::<(), vintage_hub::Error>(())
//! ```

mod error;
mod fetch;
mod listing;
mod name;
mod partial;
mod repository;
mod wanted;

pub use error::{Error, Result};
pub use fetch::fetch_missing;
pub use name::{BaseModel, HubModel, locate, token_file};
pub use wanted::Wanted;
