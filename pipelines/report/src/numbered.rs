//! Records that are named by their number.

use serde::de::DeserializeOwned;
use vintage_store::Store;

use crate::error::Result;

/// Reads every `<number>.json` directly below a prefix, in numeric order.
pub(crate) async fn numbered<T: DeserializeOwned + Send>(
    store: &Store,
    prefix: &str,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    each(store, prefix, |record| all.push(record)).await?;
    Ok(all)
}

/// Reads every `<number>.json` directly below a prefix, in numeric order, and holds a few of them
/// at a time.
pub(crate) async fn each<T: DeserializeOwned + Send>(
    store: &Store,
    prefix: &str,
    mut take: impl FnMut(T),
) -> Result<()> {
    let paths = store.list(prefix).await?;
    let number = |path: &str| {
        let name = path.strip_prefix(prefix)?.strip_prefix('/')?;
        name.strip_suffix(".json")?.parse::<u64>().ok()
    };
    let mut numbers: Vec<_> = paths.iter().filter_map(|path| number(path)).collect();
    numbers.sort_unstable();
    let count = numbers.len();
    let paths = numbers
        .into_iter()
        .map(|number| format!("{prefix}/{number}.json"));
    let mut records = store.lane_json::<T, _>(paths);
    // One that was deleted since it was listed is passed over.
    for _ in 0..count {
        records.next().await?.into_iter().for_each(&mut take);
    }
    Ok(())
}
