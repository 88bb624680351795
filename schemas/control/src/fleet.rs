use serde::{Deserialize, Serialize};

use crate::{
    CONTROL_FORMAT,
    checkpoint::ProducerWindow,
    digest::Sha256,
    name::Name,
    unit::{PolicyVersion, SlotNumber},
};

/// Report of one producer to the lead learner: the message of `<ns>.<run>.producers.v1`, keyed by
/// producer.
///
/// Every report is complete, so a later one replaces all earlier ones of the same producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Policy that the producer samples from.
    pub policy: Name,
    /// Id of the producer process, as in the header `producer` of its groups.
    pub producer: String,
    /// Number of this report, from 0 in every process. An older report never replaces a newer one.
    pub number: u64,
    /// Number of the newest [`Grants`] for the producer that it has read; `None` before the first.
    pub grants_read: Option<GrantNumber>,
    /// Number of leases that the producer can hold at once, those being sampled included.
    pub capacity: u64,
    /// Leased slots whose groups the log has not acknowledged yet.
    pub held: ProducerWindow,
    /// Leased slots whose groups got no reward. They would get none again, so nobody samples them
    /// any more.
    pub failed: ProducerWindow,
    /// Leased slots that the producer did not begin and gives back.
    pub given_back: ProducerWindow,
    /// Digest of what a slot means to this producer: seed, prompts and group size. Producers of one
    /// run must agree, or a slot would name two different groups.
    pub slots_sha256: Sha256,
    /// Parts of that digest, which say where two differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotMeaning>,
    /// True if the producer takes no more leases.
    pub leaving: bool,
}

/// Parts that decide which group a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotMeaning {
    /// Seed of the run.
    pub seed: u64,
    /// Number of completions of a group.
    pub group_size: u16,
    /// Number of prompts to train on.
    pub prompts: u64,
    /// Digest of the prompts' ids and texts, in their order.
    pub prompts_sha256: Sha256,
}

/// Leases of one producer: the message of `<ns>.<run>.grants.v1`, keyed by producer.
///
/// Every record is complete, so a later one replaces all earlier ones of the same producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Policy to sample from.
    pub policy: Name,
    /// Id of the learner process that grants.
    pub lead: String,
    /// Producer that holds the leases.
    pub producer: String,
    /// Number of this record. Once there is a record of a later term in the topic, those of earlier
    /// terms count no more.
    pub number: GrantNumber,
    /// Leases that the producer holds, by slot. A lease that is missing here has ended: its group
    /// is in the log, or the slot was granted to another producer.
    pub leases: Vec<Lease>,
    /// Slots that were taken away from the producer because it was silent; others may have them.
    /// Empty again once it reports.
    #[serde(default, skip_serializing_if = "ProducerWindow::is_empty")]
    pub withdrawn: ProducerWindow,
    /// Reason for which the producer gets no leases, if it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Number of a record of grants, in the order of time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct GrantNumber {
    /// Number of the learner process that grants: one more than the highest in the topic when it
    /// started.
    pub term: u64,
    /// Number of the record within the term.
    pub record: u64,
}

/// Permission to sample and publish the group of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Slot, which fixes the prompt and the seeds.
    pub slot: SlotNumber,
    /// Update that the group is for; −1 for any.
    pub batch: i64,
    /// Version that samples the group. Where `batch` is −1 a newer version may.
    pub version: PolicyVersion,
}

impl Heartbeat {
    /// Reads the payload of a message of the producers topic.
    ///
    /// # Errors
    /// Reason for which this build cannot read it; the reader skips the message.
    pub fn read(payload: &[u8]) -> Result<Self, String> {
        read(payload, |read: &Self| &read.format)
    }
}

impl Grants {
    /// Name of the header that repeats the term, in decimal digits: with it and the key, a producer
    /// knows all that it needs of a record for another one.
    pub const TERM_HEADER: &'static str = "term";

    /// Returns true if this is a learner's sign of life: its record about itself, which grants
    /// nothing. In its last one `refused` is set.
    pub fn is_presence(&self) -> bool {
        self.producer == self.lead
    }

    /// Reads the payload of a message of the grants topic.
    ///
    /// # Errors
    /// Reason for which this build cannot read it; the reader skips the message.
    pub fn read(payload: &[u8]) -> Result<Self, String> {
        read(payload, |read: &Self| &read.format)
    }
}

fn read<T: for<'a> Deserialize<'a>>(
    payload: &[u8],
    format: impl Fn(&T) -> &String,
) -> Result<T, String> {
    let reason = match serde_json::from_slice::<T>(payload) {
        Ok(read) if format(&read) == CONTROL_FORMAT => return Ok(read),
        Ok(read) => format!("its format is {:?}", format(&read)),
        Err(error) => error.to_string(),
    };
    Err(format!("this build reads only {CONTROL_FORMAT}: {reason}"))
}
