//! When a file is closed, and what it closes with: the state of one partition.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use vintage_control::{Offset, OffsetRange};

use crate::{
    message::Message,
    recover::{Last, Start},
};

/// When files are closed and how much a sink may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkLimits {
    /// Payload bytes of one file; zstd leaves about half of them.
    pub file_bytes: usize,
    /// Age of a file's first record by the wall clock: an idle topic is archived too.
    pub file_age: Duration,
    /// Payload bytes held for all partitions, files being written included. Beyond it the
    /// largest partition is written and the consumer waits.
    pub buffer_bytes: usize,
}

impl Default for SinkLimits {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            file_age: Duration::from_secs(60),
            buffer_bytes: 256 << 20,
        }
    }
}

/// Why a file is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Bytes,
    Age,
    Demand,
    Shutdown,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::Demand => "demand",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Records of one partition that are consumed and not yet in a file.
#[derive(Debug)]
pub(crate) struct Roll {
    /// Where the file being gathered begins: all before is committed or in `writing`.
    base: Offset,
    /// The next record the consumer will deliver.
    position: Offset,
    messages: VecDeque<Message>,
    bytes: usize,
    /// When the oldest of `messages` came.
    since: Option<Instant>,
    /// A file of this partition is being written; the next one waits, as it begins where that
    /// one turns out to end.
    writing: bool,
    wanted: BTreeSet<Offset>,
    /// What the first record must be: the last one that is archived, once more.
    last: Option<Last>,
    /// What retention deleted of the offsets from `base` on.
    lost: Option<OffsetRange>,
}

impl Roll {
    pub(crate) fn new(start: Start) -> Self {
        Self {
            base: start.base,
            position: start.read,
            messages: VecDeque::new(),
            bytes: 0,
            since: None,
            writing: false,
            wanted: BTreeSet::new(),
            last: start.last,
            lost: start.lost,
        }
    }

    /// The least offset that may come next.
    pub(crate) fn position(&self) -> Offset {
        self.position
    }

    /// Payload bytes gathered.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.writing
    }

    /// What the archive holds last, at the first record of an assignment.
    pub(crate) fn take_last(&mut self) -> Option<Last> {
        self.last.take()
    }

    /// What retention deleted of the file that begins at the base.
    pub(crate) fn lost(&self) -> Option<OffsetRange> {
        self.lost
    }

    /// What somebody waits for.
    pub(crate) fn into_wanted(self) -> BTreeSet<Offset> {
        self.wanted
    }

    /// Takes a record, unless a rival's file holds it already. Returns the bytes it takes.
    pub(crate) fn push(&mut self, message: Message, now: Instant) -> usize {
        self.position = message.offset.next();
        if message.offset < self.base {
            return 0;
        }
        let bytes = message.bytes();
        self.bytes += bytes;
        self.since.get_or_insert(now);
        self.messages.push_back(message);
        bytes
    }

    /// The consumer has read on to `next`, and no record stands before it that did not come.
    pub(crate) fn pass(&mut self, next: Offset) {
        self.position = self.position.max(next);
    }

    /// Where all that came is committed, how far reading has come; nobody waits for less any more.
    pub(crate) fn settled(&mut self) -> Option<Offset> {
        if self.writing || !self.messages.is_empty() {
            return None;
        }
        let next = self.position.max(self.base);
        self.wanted = self.wanted.split_off(&next.next());
        Some(next)
    }

    /// Somebody waits for everything before `offset` to be committed.
    pub(crate) fn want(&mut self, offset: Offset) {
        let reached = self.settled().unwrap_or(self.base);
        let is_committed = !self.writing && offset <= reached;
        if !is_committed {
            self.wanted.insert(offset);
        }
    }

    /// When its age will close the file.
    pub(crate) fn deadline(&self, limits: &SinkLimits) -> Option<Instant> {
        self.since
            .filter(|_| !self.writing)
            .map(|since| since + limits.file_age)
    }

    /// Whether to close the file now.
    pub(crate) fn due(&self, limits: &SinkLimits, now: Instant, stopping: bool) -> Option<Reason> {
        if self.writing || self.messages.is_empty() {
            return None;
        }
        if stopping {
            return Some(Reason::Shutdown);
        }
        if self.bytes >= limits.file_bytes {
            return Some(Reason::Bytes);
        }
        // What is not wanted any more was forgotten when it was committed.
        if self
            .wanted
            .first()
            .is_some_and(|wanted| *wanted <= self.position)
        {
            return Some(Reason::Demand);
        }
        let aged = self
            .deadline(limits)
            .is_some_and(|deadline| deadline <= now);
        aged.then_some(Reason::Age)
    }

    /// Closes the file: its base, the first offset after it and its messages.
    pub(crate) fn close(&mut self) -> (Offset, Offset, Vec<Message>) {
        self.writing = true;
        self.bytes = 0;
        self.since = None;
        let base = std::mem::replace(&mut self.base, self.position);
        (
            base,
            self.position,
            std::mem::take(&mut self.messages).into(),
        )
    }

    /// The file that [`Roll::close`] gave is committed up to `next`: by us with what we gave,
    /// or by a rival with more or less. `rest` is what was given and lies at or after `next`.
    /// Returns the bytes of gathered records that `next` made superfluous.
    pub(crate) fn committed(&mut self, next: Offset, rest: Vec<Message>, now: Instant) -> usize {
        self.writing = false;
        self.base = next;
        self.lost = self
            .lost
            .filter(|lost| lost.next > next)
            .map(|lost| OffsetRange {
                first: lost.first.max(next),
                ..lost
            });
        self.wanted = self.wanted.split_off(&next.next());
        let before = self.bytes;
        while self
            .messages
            .front()
            .is_some_and(|message| message.offset < next)
        {
            self.bytes -= self
                .messages
                .pop_front()
                .map_or(0, |message| message.bytes());
        }
        let dropped = before - self.bytes;
        for message in rest.into_iter().rev() {
            self.bytes += message.bytes();
            self.messages.push_front(message);
        }
        self.since = if self.messages.is_empty() {
            None
        } else {
            Some(self.since.unwrap_or(now))
        };
        dropped
    }
}

#[cfg(test)]
mod tests;
