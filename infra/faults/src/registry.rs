/// Point at which a test may kill or freeze the process, named after the step before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Name in `VINTAGE_FAULTS`; its first word is the role, or `store`.
    pub name: &'static str,
    /// Description of what has just been done and what has not.
    pub after: &'static str,
}

const fn after(name: &'static str, after: &'static str) -> Point {
    Point { name, after }
}

/// Every point, so that a test can iterate over all of them.
pub const POINTS: &[Point] = &[
    after(
        "archive.gathered",
        "records are taken from the log, no file is begun",
    ),
    after(
        "archive.encoded",
        "a file is encoded in memory, nothing of it is on the disk",
    ),
    after(
        "store.staged",
        "an object is written beside its name, not synced",
    ),
    after("store.synced", "it is synced, and has no name yet"),
    after(
        "store.linked",
        "it has its name (the commit), the directory is not synced",
    ),
    after(
        "store.durable",
        "the directory is synced, the staging name is still there",
    ),
    after(
        "archive.committed",
        "a file is committed, the sink has not recorded it",
    ),
    after(
        "learner.chosen",
        "an update's groups are chosen, its plan is not written",
    ),
    after(
        "learner.planned",
        "the plan is durable, nothing is computed",
    ),
    after(
        "learner.updated",
        "the update is computed, nothing of it is written",
    ),
    after(
        "learner.weights",
        "the weights are written, their manifest is not",
    ),
    after(
        "learner.published",
        "the version is published, the result is not written",
    ),
    after(
        "learner.noted",
        "the result is durable, the version is not announced",
    ),
    after(
        "learner.announced",
        "the version is announced, the checkpoint is due",
    ),
    after(
        "learner.moments",
        "a checkpoint's moments are written, its manifest is not",
    ),
    after("learner.checkpointed", "the checkpoint is committed"),
    after(
        "rollout.sampled",
        "a group is sampled and scored, and has no number",
    ),
    after("rollout.numbered", "a group has its number and is not sent"),
    after(
        "rollout.part",
        "some parts of a split group are sent, not all",
    ),
    after(
        "rollout.sent",
        "a message is handed to the client and not acknowledged",
    ),
    after(
        "rollout.acknowledged",
        "the log has acknowledged a group, the journal does not say so",
    ),
    after("rollout.journaled", "the journal says so"),
    after(
        "prune.recorded",
        "the record of a prune is durable, nothing is deleted",
    ),
    after(
        "prune.marked",
        "the archives say where they begin, nothing is deleted",
    ),
    after(
        "prune.deleted",
        "an object is deleted, others of the prune are still there",
    ),
];

/// Bugs that a test may switch on: name, and description of the wrong behaviour.
pub const MISTAKES: &[(&str, &str)] = &[
    (
        "mistake.overwrite",
        "objects are renamed over what is there instead of created if absent",
    ),
    (
        "mistake.announce_first",
        "an update is run, published and announced before its plan is written",
    ),
    (
        "mistake.group_offset",
        "the sink resumes at the consumer group's offset, not after its last file",
    ),
    (
        "mistake.stale_weights",
        "an engine goes on with its first weights under the names of the new ones",
    ),
    (
        "mistake.silent_reject",
        "a rejection is left out of the plan",
    ),
    (
        "mistake.train_twice",
        "a group is trained a second time, in a later update",
    ),
];
