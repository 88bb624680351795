//! Records of what `vintage prune` deleted from a run's store: `prunes/<N>.json`, N from 0.

use std::collections::BTreeMap;

use vintage_control::PruneRecord;

use crate::{
    created::Created,
    error::{Error, Result},
    store::Store,
};

const FOLDER: &str = "prunes";

/// Returns every record of a prune in a run's store, by path, in the order in which they were
/// written.
pub async fn prunes(store: &Store) -> Result<Vec<(String, PruneRecord)>> {
    let mut numbered = BTreeMap::new();
    for path in store.list(FOLDER).await? {
        let Some(number) = number(&path) else {
            continue;
        };
        let record = store.get_json(&path).await?;
        let record = record.ok_or_else(|| Error::Vanished { path: path.clone() })?;
        numbered.insert(number, (path, record));
    }
    Ok(numbered.into_values().collect())
}

/// Returns the path that the next record of a prune will have.
pub async fn next_prune(store: &Store) -> Result<String> {
    let paths = store.list(FOLDER).await?;
    let last = paths.iter().filter_map(|path| number(path)).max();
    Ok(format!("{FOLDER}/{}.json", last.map_or(0, |last| last + 1)))
}

/// Writes the record of a prune at `path`; returns false if another prune has taken that path.
pub async fn write_prune(store: &Store, path: &str, record: &PruneRecord) -> Result<bool> {
    Ok(store.create_json(path, record).await? == Created::New)
}

fn number(path: &str) -> Option<u64> {
    let name = path.strip_prefix(FOLDER)?.strip_prefix('/')?;
    name.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use vintage_control::PruneRecord;

    use super::{next_prune, prunes, write_prune};
    use crate::store::Store;

    #[tokio::test]
    async fn records_are_numbered_and_none_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        let text = r#"{"format":"vintage.control/1","decided_at_ms":7,"asked":{}}"#;
        let mut record: PruneRecord = serde_json::from_str(text).unwrap();
        for number in 0..12 {
            record.decided_at_ms = number;
            let path = next_prune(&store).await.unwrap();
            assert_eq!(path, format!("prunes/{number}.json"));
            assert!(write_prune(&store, &path, &record).await.unwrap());
            assert!(!write_prune(&store, &path, &record).await.unwrap());
        }
        let all = prunes(&store).await.unwrap();
        let times: Vec<_> = all.iter().map(|(_, record)| record.decided_at_ms).collect();
        assert_eq!(times, (0..12).collect::<Vec<_>>());
    }
}
