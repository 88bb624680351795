//! State of one partition in a sink: the records gathered for the next file, and when it is closed.

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

/// Limits at which a sink closes files, and on the memory that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkLimits {
    /// Size of its messages at which a file is closed, in bytes before compression (payload, key
    /// and headers); zstd leaves about half.
    pub file_bytes: usize,
    /// Age at which a file is closed, counted from the arrival of its first record, so that an idle
    /// topic is archived too.
    pub file_age: Duration,
    /// Bytes of messages held for all partitions, files being written included. At this limit the
    /// consumer waits, and the largest partition is written if no other file is being written.
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

/// Reason for which a file is closed.
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
pub(crate) struct OpenFile {
    /// First offset of the file being gathered; everything before it is committed or being written.
    base: Offset,
    /// Lowest offset that the consumer may deliver next.
    position: Offset,
    messages: VecDeque<Message>,
    bytes: usize,
    /// Arrival time of the oldest of `messages`.
    since: Option<Instant>,
    /// True while a file of this partition is being written. The next one waits, because it begins
    /// where that one turns out to end.
    writing: bool,
    wanted: BTreeSet<Offset>,
    /// Last archived record, which the first record read must equal.
    last: Option<Last>,
    /// Offsets from `base` on that retention deleted before they were archived.
    lost: Option<OffsetRange>,
}

impl OpenFile {
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

    /// Lowest offset that may come next.
    pub(crate) fn position(&self) -> Offset {
        self.position
    }

    /// Bytes of the messages gathered for the next file.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.writing
    }

    /// Returns the last archived record at the first call after an assignment, then `None`.
    pub(crate) fn take_last(&mut self) -> Option<Last> {
        self.last.take()
    }

    /// Returns the offsets from the base on that retention deleted before they were archived.
    pub(crate) fn lost(&self) -> Option<OffsetRange> {
        self.lost
    }

    /// Returns the offsets that somebody waits for.
    pub(crate) fn into_wanted(self) -> BTreeSet<Offset> {
        self.wanted
    }

    /// Adds a record, unless another sink's file holds it already. Returns the bytes that it adds.
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

    /// Notes that the consumer has read up to `next` and that no further record exists before it.
    pub(crate) fn pass(&mut self, next: Offset) {
        self.position = self.position.max(next);
    }

    /// Returns the offset that reading has reached if every record that came is committed, else
    /// `None`. Forgets the demands up to it.
    pub(crate) fn settled(&mut self) -> Option<Offset> {
        if self.writing || !self.messages.is_empty() {
            return None;
        }
        let next = self.position.max(self.base);
        self.wanted = self.wanted.split_off(&next.next());
        Some(next)
    }

    /// Notes that somebody waits for everything before `offset` to be committed.
    pub(crate) fn want(&mut self, offset: Offset) {
        let reached = self.settled().unwrap_or(self.base);
        let is_committed = !self.writing && offset <= reached;
        if !is_committed {
            self.wanted.insert(offset);
        }
    }

    /// Returns the time at which the file's age will close it.
    pub(crate) fn deadline(&self, limits: &SinkLimits) -> Option<Instant> {
        self.since
            .filter(|_| !self.writing)
            // An age beyond what a clock can count never comes.
            .and_then(|since| since.checked_add(limits.file_age))
    }

    /// Returns the reason to close the file now, or `None` to leave it open.
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
        // Demands that were met are forgotten at the commit.
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

    /// Closes the file; returns its base, the first offset after it and its messages.
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

    /// Notes that the file given by [`OpenFile::close`] is committed up to `next`, by this sink or,
    /// with more or fewer records, by another. `rest` are the given messages at or after `next`.
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
