//! Opened files that are kept for a while: opening one costs a round trip over a network, so several are
//! opened at the same time before they are used, and one that is used twice is opened once.

use std::collections::{HashMap, VecDeque};

use crate::file::Opened;

/// Number of files that are opened at the same time.
pub const AHEAD: usize = 16;
/// Number of files that are kept, for four partitions that are read side by side. Each takes up to
/// 64 KiB of its bytes, and about as much for what they say.
const KEPT: usize = 4 * AHEAD;

/// Files opened last, by path.
#[derive(Debug, Default)]
pub(crate) struct OpenedLast {
    files: HashMap<String, Opened>,
    /// Paths of the files, those opened first in front.
    order: VecDeque<String>,
}

impl OpenedLast {
    pub(crate) fn get(&self, path: &str) -> Option<&Opened> {
        self.files.get(path)
    }

    /// Keeps a file, in place of the one that was opened first if there are too many.
    pub(crate) fn put(&mut self, opened: Opened) {
        let path = opened.file.path.clone();
        if self.files.insert(path.clone(), opened).is_none() {
            self.order.push_back(path);
        }
        if self.order.len() > KEPT
            && let Some(first) = self.order.pop_front()
        {
            self.files.remove(&first);
        }
    }
}
