//! Which numbers of each producer were seen: a watermark plus the numbers above it.

use std::collections::{BTreeMap, BTreeSet};

use vintage_control::ProducerWindow;

#[derive(Debug, Clone, Default)]
struct Window {
    next: u64,
    above: BTreeSet<u64>,
}

impl Window {
    /// Whether `seq` is new.
    fn insert(&mut self, seq: u64) -> bool {
        if seq < self.next || !self.above.insert(seq) {
            return false;
        }
        while self.above.remove(&self.next) {
            self.next += 1;
        }
        true
    }
}

/// `seen` refuses duplicates while running; `finished` is what a checkpoint keeps, since groups
/// that wait are read again after a restart.
#[derive(Debug, Default)]
pub(super) struct Windows {
    seen: BTreeMap<String, Window>,
    finished: BTreeMap<String, Window>,
}

impl Windows {
    pub(super) fn new(finished: &BTreeMap<String, ProducerWindow>) -> Self {
        let finished: BTreeMap<_, _> = finished
            .iter()
            .map(|(producer, window)| {
                let above = window.above.iter().copied().collect();
                (
                    producer.clone(),
                    Window {
                        next: window.next,
                        above,
                    },
                )
            })
            .collect();
        Self {
            seen: finished.clone(),
            finished,
        }
    }

    pub(super) fn see(&mut self, producer: &str, seq: u64) -> bool {
        entry(&mut self.seen, producer).insert(seq)
    }

    pub(super) fn finish(&mut self, producer: &str, seq: u64) {
        entry(&mut self.seen, producer).insert(seq);
        entry(&mut self.finished, producer).insert(seq);
    }

    pub(super) fn finished(&self) -> BTreeMap<String, ProducerWindow> {
        self.finished
            .iter()
            .map(|(producer, window)| {
                let above = window.above.iter().copied().collect();
                (
                    producer.clone(),
                    ProducerWindow {
                        next: window.next,
                        above,
                    },
                )
            })
            .collect()
    }
}

fn entry<'a>(windows: &'a mut BTreeMap<String, Window>, producer: &str) -> &'a mut Window {
    if !windows.contains_key(producer) {
        windows.insert(producer.to_owned(), Window::default());
    }
    windows.get_mut(producer).expect("inserted above")
}
