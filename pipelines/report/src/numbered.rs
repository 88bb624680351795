//! Records that are named by their number.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::de::DeserializeOwned;
use vintage_store::Store;

use crate::error::Result;

/// Number of records read concurrently, because each costs a round trip over a network.
const AT_ONCE: usize = 16;

/// Reads every `<number>.json` directly below a prefix, in numeric order.
pub(crate) async fn numbered<T: DeserializeOwned>(store: &Store, prefix: &str) -> Result<Vec<T>> {
    let mut all = Vec::new();
    each(store, prefix, |record| all.push(record)).await?;
    Ok(all)
}

/// Reads every `<number>.json` directly below a prefix, in numeric order, and holds a few of them
/// at a time.
pub(crate) async fn each<T: DeserializeOwned>(
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
    let records = stream::iter(numbers).map(|number| async move {
        store
            .get_json::<T>(&format!("{prefix}/{number}.json"))
            .await
    });
    let mut records = records.buffered(AT_ONCE);
    while let Some(record) = records.try_next().await? {
        record.into_iter().for_each(&mut take);
    }
    Ok(())
}
