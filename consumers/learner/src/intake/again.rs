//! Groups that were trained before a restart and may be trained again: their records stay readable,
//! and are joined when they arrive once more.

use vintage_control::RecordId;
use vintage_trajectory::{Assembly, BadRecord, Headers, Part, Progress, Rows};

use super::{Intake, ReadyGroup};

/// Parts and groups that arrived once more.
#[derive(Debug, Default)]
pub(super) struct Again {
    assembling: Assembly<Rows>,
    groups: Vec<ReadyGroup>,
}

impl Intake {
    /// Keeps records readable for a restarted process although they are trained.
    pub fn keep(&mut self, records: impl IntoIterator<Item = RecordId>) {
        self.cursors.keep(records);
    }

    /// Ends what [`Intake::keep`] began.
    pub fn release(&mut self, records: impl IntoIterator<Item = RecordId>) {
        self.cursors.release(records);
    }

    /// Returns true if not all records can still arrive in this process, or all have.
    pub fn is_past(&self, records: &[RecordId]) -> bool {
        let before = |record: &RecordId| self.cursors.is_before(*record);
        let received = |record: &RecordId| self.cursors.received(*record);
        records.iter().any(before) || records.iter().all(received)
    }

    /// Removes and returns the kept groups whose records have arrived once more.
    pub fn take_restored(&mut self) -> Vec<ReadyGroup> {
        std::mem::take(&mut self.again.groups)
    }

    /// Takes a record that was trained before this process started, if it is kept.
    pub(super) fn take_again(
        &mut self,
        record: RecordId,
        message: Result<(Headers, Rows), BadRecord>,
    ) {
        if !self.cursors.is_kept(record) {
            return;
        }
        // What was trained could be read; a group of which a part cannot is not restored.
        let Ok((headers, body)) = message else { return };
        let part = Part {
            record,
            headers,
            body,
        };
        if let Progress::Complete(parts) = self.again.assembling.add(part)
            && let Some(first) = parts.first()
        {
            let group = self.group_of(first.headers.clone(), parts);
            self.again.groups.push(group);
        }
    }
}
