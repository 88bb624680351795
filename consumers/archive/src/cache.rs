//! Cache of decoded row groups, so that fetching a plan's records one by one reads each file about
//! once.

use std::sync::Arc;

use crate::rowgroup::RowGroup;

/// Upper limit on the decoded bytes kept, 256 MiB; the row group used last is kept even if it is
/// larger.
const BUDGET: usize = 256 << 20;

type Key = (String, usize);

/// Cache of decoded row groups, keyed by file path and row group number, that evicts the least
/// recently used first.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// Entries, least recently used first. There are only a handful, so a linear search is faster
    /// than a map.
    entries: Vec<(Key, Arc<RowGroup>)>,
}

impl Cache {
    pub(crate) fn get(&mut self, path: &str, group: usize) -> Option<Arc<RowGroup>> {
        let at = self
            .entries
            .iter()
            .position(|((p, g), _)| *g == group && p == path)?;
        let entry = self.entries.remove(at);
        let found = Arc::clone(&entry.1);
        self.entries.push(entry);
        Some(found)
    }

    pub(crate) fn put(&mut self, path: &str, group: usize, rows: Arc<RowGroup>) {
        self.entries.push(((path.to_owned(), group), rows));
        let mut bytes: usize = self.entries.iter().map(|(_, rows)| rows.bytes).sum();
        let mut evicted = 0;
        while bytes > BUDGET && evicted + 1 < self.entries.len() {
            bytes -= self.entries[evicted].1.bytes;
            evicted += 1;
        }
        self.entries.drain(..evicted);
    }
}
