//! Files that a model folder needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::Deserialize;

/// Name of the file of weights.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// Name of the file that lists the files of weights, if there are several.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Names of the files of a model folder, given by the code that will open the folder.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Files to fetch if the repository has them. Weights are always fetched and not listed.
    pub files: &'static [&'static str],
    /// Files that a folder must have to be usable.
    pub needed: &'static [&'static str],
    /// Function that gives advice on a repository without a needed file. Arguments: the missing
    /// file, the model's name, the files that the repository has.
    pub instead_of: fn(&str, &str, &[String]) -> Option<String>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Returns true if a snapshot has all needed files and all weights. A snapshot may lack some:
/// another program may have fetched a tokenizer alone, or been interrupted between two shards.
pub(crate) fn is_complete(snapshot: &Path, wanted: Wanted) -> bool {
    let has = |name: &str| snapshot.join(name).is_file();
    let sharded = || {
        let index = std::fs::read(snapshot.join(INDEX));
        let shards = index.ok().and_then(|index| shards_of(&index).ok());
        shards.is_some_and(|shards| shards.iter().all(|shard| has(shard)))
    };
    wanted.needed.iter().all(|name| has(name)) && (has(WEIGHTS) || sharded())
}

/// Returns the names of the files in an index of weights.
pub(crate) fn shards_of(index: &[u8]) -> serde_json::Result<BTreeSet<String>> {
    let index: Index = serde_json::from_slice(index)?;
    Ok(index.weight_map.into_values().collect())
}
