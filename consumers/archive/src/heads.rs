//! Stream of the heads of archived messages.

use std::collections::VecDeque;

use vintage_control::Offset;

use crate::{
    columns::OFFSET,
    error::Result,
    file::{ArchiveFile, Opened},
    head::{Columns, MessageHead, heads},
    topic_archive::TopicArchive,
};

/// Columns that are read; filters are not applied here.
const COLUMNS: Columns = Columns::Head;

/// Stream of the heads of one partition, by ascending offset. See [`crate::Reader::heads`].
pub struct Heads {
    archive: TopicArchive,
    files: VecDeque<ArchiveFile>,
    from: Offset,
    /// The file being read, and its row groups that are still to come.
    groups: Option<(Opened, VecDeque<usize>)>,
    decoded: VecDeque<MessageHead>,
}

impl Heads {
    pub(crate) fn new(archive: TopicArchive, files: VecDeque<ArchiveFile>, from: Offset) -> Self {
        Self {
            archive,
            files,
            from,
            groups: None,
            decoded: VecDeque::new(),
        }
    }

    /// Returns the next head; `None` after the last.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] naming the file whose columns cannot be read. Checksums are not
    /// compared, because they cover whole row groups.
    pub async fn next(&mut self) -> Result<Option<MessageHead>> {
        loop {
            if let Some(head) = self.decoded.pop_front() {
                if head.record.offset < self.from {
                    continue;
                }
                return Ok(Some(head));
            }
            if let Some((file, groups)) = &mut self.groups
                && let Some(group) = groups.pop_front()
            {
                let ends_before = file
                    .range(group, OFFSET, OFFSET)
                    .is_some_and(|(_, last)| last < self.from.0);
                if !ends_before {
                    let bytes = file.load_columns(group, COLUMNS.names()).await?;
                    let batch = file.decode(group, bytes, Some(COLUMNS.names())).await?;
                    let footer = &file.file.footer;
                    let found = heads(&batch, footer.incarnation, footer.partition, COLUMNS);
                    self.decoded = found.map_err(|reason| file.corrupt(reason))?.into();
                }
                continue;
            }
            self.groups = self.archive.open_next(&mut self.files).await?;
            if self.groups.is_none() {
                return Ok(None);
            }
        }
    }
}
