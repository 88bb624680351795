//! Groups of one partition, each with the verdict of the selection, in the order in which they
//! became whole.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;
use vintage_control::{INCOMPLETE_AFTER_RECORDS, Offset, Partition, RecordId};
use vintage_trajectory::{Assembly, Part, Parts, Progress};

use crate::{
    counts::SelectionCounts,
    error::{Error, Result},
    file::Opened,
    head::{Columns, MessageHead, heads},
    message::ArchivedMessage,
    rowgroup::RowGroup,
    select::{RefusedBy, Selection},
    topic_archive::{Known, TopicArchive},
    window::Loaded,
};

/// Whole group of the archive. Its rows are read by [`ArchivedGroup::load`] only.
#[derive(Debug)]
pub struct ArchivedGroup {
    /// Parts in the order of the log.
    parts: Vec<Located>,
}

impl ArchivedGroup {
    /// Returns the heads of the group's parts, in the order of the log.
    pub fn heads(&self) -> impl Iterator<Item = &MessageHead> + Clone {
        self.parts.iter().map(|part| &part.head)
    }

    /// Returns the head of the last part, with which the group became whole.
    pub fn last(&self) -> &MessageHead {
        &self.parts[self.parts.len() - 1].head
    }

    /// Reads the messages of the group's parts, in the order of the log.
    pub async fn load(&self) -> Result<Vec<ArchivedMessage>> {
        let mut messages = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            messages.push(part.block.message(part.index).await?);
        }
        Ok(messages)
    }
}

/// Head of a message, and the row group that holds its rows.
#[derive(Debug)]
struct Located {
    head: MessageHead,
    block: Arc<Block>,
    /// Index among the row group's messages.
    index: usize,
}

/// Row group whose rows are decoded when the first of its groups is loaded.
#[derive(Debug)]
struct Block {
    file: Opened,
    group: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Loaded(Loaded),
    Rows(Box<RowGroup>),
}

impl Block {
    async fn message(&self, index: usize) -> Result<ArchivedMessage> {
        let mut state = self.state.lock().await;
        if let State::Loaded(bytes) = &*state {
            let batch = self.file.decode(self.group, bytes.clone(), None).await?;
            let rows = RowGroup::of_file(&self.file, &batch)?;
            *state = State::Rows(Box::new(rows));
        }
        match &*state {
            State::Rows(rows) => rows
                .message(index)
                .map_err(|reason| self.file.corrupt(reason)),
            State::Loaded(_) => Err(self.file.corrupt("its rows were not taken apart")),
        }
    }
}

/// Whole group with the verdict of the selection on it.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) group: ArchivedGroup,
    pub(crate) verdict: Option<RefusedBy>,
    /// Key by which partitions are merged: latest timestamp so far, then partition and offset of
    /// the last part. Records of a partition keep their order even if their timestamps do not
    /// ascend.
    pub(crate) order: (Option<i64>, Partition, Offset),
}

/// A file, and for each of its row groups the filter for which it is skipped.
#[derive(Debug)]
struct Planned {
    known: Known,
    pruned: Vec<Option<RefusedBy>>,
}

/// An open file and the next of its row groups to read.
#[derive(Debug)]
struct Reading {
    file: Opened,
    planned: Planned,
    next: usize,
    /// Number of records read, and of quarantined ones among them.
    seen: (u64, u64),
}

type Ahead = AbortOnDropHandle<Result<(Arc<Block>, Vec<MessageHead>)>>;

/// Reader of the groups of one partition of one incarnation.
pub(crate) struct PartitionGroups {
    archive: TopicArchive,
    selection: Arc<Selection>,
    partition: Partition,
    files: VecDeque<Planned>,
    reading: Option<Reading>,
    /// Next row group, being loaded by another task.
    ahead: Option<Ahead>,
    queue: VecDeque<Located>,
    /// Latest timestamp up to the last record taken from the queue.
    clock: Option<i64>,
    /// Latest timestamp among the skipped records before the row group that is being loaded ahead.
    clock_ahead: Option<i64>,
    /// Groups of which parts are still to come.
    open: Assembly<Located>,
    /// Runs of skipped offsets, first and last of each, and the filter for which they were skipped.
    skipped: Vec<(i64, i64, RefusedBy)>,
}

impl PartitionGroups {
    pub(crate) fn new(
        archive: TopicArchive,
        selection: Arc<Selection>,
        partition: Partition,
        files: Vec<Known>,
    ) -> Self {
        let bounds: Vec<_> = files
            .iter()
            .flat_map(|known| known.bounds.iter().copied())
            .collect();
        let mut pruned = selection.prune(&bounds).into_iter();
        let planned = files.into_iter().map(|known| {
            let pruned = pruned.by_ref().take(known.bounds.len()).collect();
            Planned { known, pruned }
        });
        Self {
            partition,
            files: planned.collect(),
            archive,
            selection,
            reading: None,
            ahead: None,
            queue: VecDeque::new(),
            clock: None,
            clock_ahead: None,
            open: Assembly::default(),
            skipped: Vec::new(),
        }
    }

    /// Returns the next whole group; `None` at the partition's end.
    pub(crate) async fn next(&mut self, counts: &mut SelectionCounts) -> Result<Option<Candidate>> {
        loop {
            while let Some(located) = self.queue.pop_front() {
                if let Some(candidate) = self.take(located, counts) {
                    return Ok(Some(candidate));
                }
            }
            let next = match self.ahead.take() {
                Some(ahead) => Some(ahead),
                None => self.read_ahead(counts).await?,
            };
            let Some(next) = next else {
                for parts in self.open.drain() {
                    self.give_up(&parts, counts);
                }
                return Ok(None);
            };
            let (block, heads) = next.await.map_err(|panic| Error::Died {
                part: "archive reader",
                reason: panic.to_string(),
            })??;
            if let Some(reading) = &mut self.reading
                && reading.file.file.path == block.file.file.path
            {
                let quarantined = heads.iter().filter(|head| head.quarantined).count();
                reading.seen.0 += heads.len() as u64;
                reading.seen.1 += quarantined as u64;
            }
            self.clock = self.clock.max(self.clock_ahead.take());
            let located = heads.into_iter().enumerate().map(|(index, head)| Located {
                head,
                block: Arc::clone(&block),
                index,
            });
            self.queue.extend(located);
            self.ahead = self.read_ahead(counts).await?;
        }
    }

    /// Takes one record into account; returns the group that it completes.
    fn take(&mut self, located: Located, counts: &mut SelectionCounts) -> Option<Candidate> {
        counts.records += 1;
        let head = &located.head;
        let offset = head.record.offset;
        self.clock = self.clock.max(head.timestamp_ms);
        self.give_up_overdue(head.record, counts);
        let headers = match &head.headers {
            Ok(headers) if !head.quarantined => headers,
            _ if self.selection.refuses_time(head.timestamp_ms) => {
                counts.skip(RefusedBy::Time, 1);
                return None;
            }
            _ => {
                counts.quarantined += 1;
                return None;
            }
        };
        let part = Part {
            record: head.record,
            headers: headers.clone(),
            body: located,
        };
        let parts = self.whole(part, counts)?;
        let group = ArchivedGroup { parts };
        let verdict = self.selection.refuses(&group.heads());
        Some(Candidate {
            verdict,
            group,
            order: (self.clock, self.partition, offset),
        })
    }

    /// Adds a part to its group; returns the parts of the group that it completes, in the order of
    /// the log.
    fn whole(&mut self, part: Part<Located>, counts: &mut SelectionCounts) -> Option<Vec<Located>> {
        match self.open.add(part) {
            Progress::Partial => None,
            Progress::Complete(mut parts) => {
                parts.sort_by_key(|part| part.record);
                Some(parts.into_iter().map(|part| part.body).collect())
            }
            Progress::Repeated(_) => {
                counts.duplicates += 1;
                None
            }
            // As the learner refuses them.
            Progress::Contradictory(parts, _) => {
                counts.incomplete += parts.there().count() as u64 + 1;
                None
            }
            Progress::OfAnother(_) => {
                counts.incomplete += 1;
                None
            }
        }
    }

    /// Counts groups whose missing parts will not come.
    fn give_up_overdue(&mut self, now: RecordId, counts: &mut SelectionCounts) {
        for parts in self.open.overdue(now, INCOMPLETE_AFTER_RECORDS) {
            self.give_up(&parts, counts);
        }
    }

    /// Counts a group whose missing parts will not come: as refused if they may be in row groups
    /// that were skipped, see [`Selection::prune`], and as incomplete otherwise.
    fn give_up(&self, parts: &Parts<Located>, counts: &mut SelectionCounts) {
        let spread = INCOMPLETE_AFTER_RECORDS as i64;
        let near = parts.there().find_map(|part| {
            let at = part.record.offset.0;
            let reaches =
                |(first, last, _): &&(i64, i64, _)| *first <= at + spread && *last >= at - spread;
            self.skipped
                .iter()
                .find(reaches)
                .map(|(_, _, filter)| *filter)
        });
        match near {
            Some(filtered) => counts.skip(filtered, parts.there().count() as u64),
            None => counts.incomplete += parts.there().count() as u64,
        }
    }

    /// Starts loading the next row group that may hold a wanted group.
    async fn read_ahead(&mut self, counts: &mut SelectionCounts) -> Result<Option<Ahead>> {
        loop {
            while let Some(reading) = &mut self.reading {
                let at = reading.next;
                let Some(pruned) = reading.planned.pruned.get(at) else {
                    let done = self.reading.take();
                    if let Some(done) = done {
                        count_skipped(&done.planned, done.seen, counts);
                    }
                    break;
                };
                reading.next += 1;
                if pruned.is_some() {
                    self.skip(at);
                    continue;
                }
                let file = reading.file.clone();
                let inside = self.selection.looks_inside();
                let loading = tokio::spawn(load(file, at, inside));
                return Ok(Some(AbortOnDropHandle::new(loading)));
            }
            let Some(planned) = self.files.pop_front() else {
                return Ok(None);
            };
            let footer = &planned.known.file.footer;
            if planned.pruned.iter().all(Option::is_some) {
                self.clock_ahead = self.clock_ahead.max(footer.max_timestamp_ms);
                count_skipped(&planned, (0, 0), counts);
                let filter = planned.pruned.first().copied().flatten();
                if let Some(filter) = filter {
                    let last = footer.next_offset.0 - 1;
                    self.note_skipped((footer.base_offset.0, last, filter));
                }
                continue;
            }
            let file = self
                .archive
                .open(footer.incarnation, footer.partition, footer.base_offset)
                .await?;
            self.reading = Some(Reading {
                file,
                planned,
                next: 0,
                seen: (0, 0),
            });
        }
    }

    fn skip(&mut self, at: usize) {
        let Some(reading) = &self.reading else { return };
        let bounds = reading.planned.known.bounds[at];
        let filter = reading.planned.pruned[at];
        let latest = bounds.timestamps.map(|(_, latest)| latest);
        self.clock_ahead = self.clock_ahead.max(latest);
        if let (Some((first, last)), Some(filter)) = (bounds.offsets, filter) {
            self.note_skipped((first, last, filter));
        }
    }

    fn note_skipped(&mut self, (first, last, filter): (i64, i64, RefusedBy)) {
        match self.skipped.last_mut() {
            Some(run) if run.2 == filter && run.1 + 1 >= first => run.1 = last,
            _ => self.skipped.push((first, last, filter)),
        }
    }
}

/// Counts the records of a file that were not among the `seen` ones.
fn count_skipped(planned: &Planned, seen: (u64, u64), counts: &mut SelectionCounts) {
    let Some(filter) = planned.pruned.iter().flatten().next() else {
        return;
    };
    let footer = &planned.known.file.footer;
    let records = footer.messages.saturating_sub(seen.0);
    let quarantined = footer.quarantined.saturating_sub(seen.1).min(records);
    counts.records += records;
    if *filter == RefusedBy::Time {
        counts.skip(*filter, records);
    } else {
        // A record that cannot be decoded has no version or reward by which it could be refused.
        counts.quarantined += quarantined;
        counts.skip(*filter, records - quarantined);
    }
}

async fn load(file: Opened, group: usize, inside: bool) -> Result<(Arc<Block>, Vec<MessageHead>)> {
    let bytes = file.load(group).await?;
    let columns = if inside {
        Columns::WithFilterValues
    } else {
        Columns::Head
    };
    let batch = file
        .decode(group, bytes.clone(), Some(columns.names()))
        .await?;
    let footer = &file.file.footer;
    let found = heads(&batch, footer.incarnation, footer.partition, columns);
    let heads = found.map_err(|reason| file.corrupt(reason))?;
    let block = Block {
        file,
        group,
        state: Mutex::new(State::Loaded(bytes)),
    };
    Ok((Arc::new(block), heads))
}
