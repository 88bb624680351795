//! Entry point of `vintage uses`, and of `vintage.uses` in Python: which update of a learner trained
//! which rollout, as a table.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{
        ArrayRef, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
        UInt16Array,
    },
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use serde::Serialize;
use vintage_archive::Reader;
use vintage_control::{Name, Plan, PlannedGroup, UpdateNumber};
use vintage_learner::{engine::baseline, update::trained_tokens};
use vintage_store::Records;
use vintage_trajectory::Rows;

use crate::{
    archive_source::archive_of_run,
    error::{Error, Result},
    folder::open_store,
    learner_of::learner_of,
};

/// Number of rows at which a batch ends with the update that reaches it.
const BATCH: usize = 16_384;

/// Columns of the table.
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    use DataType::{Float32, Float64, Int32, Int64, UInt16, Utf8};
    let columns = [
        ("update", Int64),
        ("first_trained", Int64),
        ("group", Utf8),
        ("incarnation", Int64),
        ("partition", Int32),
        ("offset", Int64),
        ("producer", Utf8),
        ("producer_seq", Int64),
        ("sample_index", UInt16),
        ("prompt_id", Utf8),
        ("oldest_version", Int64),
        ("newest_version", Int64),
        ("staleness", Int64),
        ("tokens", Int64),
        ("reward", Float32),
        ("advantage", Float32),
        ("update_masked_share", Float64),
    ];
    let fields = columns.map(|(name, kind)| Field::new(name, kind, name == "update_masked_share"));
    Arc::new(Schema::new(fields.to_vec()))
});

/// Size of a table of uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UsesRead {
    /// Number of updates.
    pub updates: u64,
    /// Number of rows.
    pub rows: u64,
}

/// Returns the columns of the table, which has one row for each rollout that an update trained: integers,
/// texts and numbers without nulls, but for `update_masked_share`, the share of the whole update's tokens
/// that the rule masked, which is null while the update has no result. `staleness` is of the oldest
/// token, in updates.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// Passes the table of a learner of the run in `folder` to `take`, a batch of whole updates at a time; the
/// lead's without a name. Groups of a blended archive are left out.
///
/// # Errors
/// No run, no such learner, no plan, a trained record that is not in the archive or cannot be read, and
/// what `take` fails with.
pub async fn uses<E: From<Error>>(
    folder: &Path,
    learner: Option<&Name>,
    mut take: impl FnMut(&RecordBatch) -> Result<(), E>,
) -> Result<UsesRead, E> {
    let store = open_store(folder)?;
    let learner = learner_of(folder, &store, learner).await?;
    let config = vintage_config::read(&learner.config).map_err(Error::from)?;
    let (reader, _) = archive_of_run(&config, &store, true).await?;
    let records = Records::new(store, learner.name.clone());
    let mut plans = records.plans(UpdateNumber::FIRST);
    let mut results = records.results(0..u64::MAX);
    let mut read = UsesRead::default();
    let mut columns = Columns::default();
    while let Some(plan) = plans.next().await.map_err(Error::from)? {
        let result = results.next().await.map_err(Error::from)?;
        let masked = result
            .filter(|result| result.tokens > 0)
            .map(|result| result.masked_tokens as f64 / result.tokens as f64);
        let new = plan.groups.iter().filter(|group| group.source.is_none());
        let new = new.map(|group| (group, plan.update()));
        let reused = plan.reused.iter();
        let reused = reused.map(|reused| (&reused.group, reused.first_trained));
        for (group, first_trained) in new.chain(reused) {
            let used = Used {
                plan: &plan,
                group,
                first_trained,
                masked,
            };
            columns.add(&used, &reader).await?;
        }
        read.updates += 1;
        if columns.update.len() >= BATCH {
            let batch = std::mem::take(&mut columns).batch()?;
            read.rows += batch.num_rows() as u64;
            take(&batch)?;
        }
    }
    if read.updates == 0 {
        let reason = format!("has no plan of learner {} yet", learner.name);
        let path = folder.to_owned();
        return Err(Error::Folder { path, reason }.into());
    }
    let rest = columns.batch()?;
    read.rows += rest.num_rows() as u64;
    take(&rest)?;
    Ok(read)
}

/// Group that an update trained.
struct Used<'a> {
    plan: &'a Plan,
    group: &'a PlannedGroup,
    first_trained: UpdateNumber,
    /// Masked share of the update.
    masked: Option<f64>,
}

#[derive(Default)]
struct Columns {
    update: Vec<i64>,
    first_trained: Vec<i64>,
    group: Vec<String>,
    incarnation: Vec<i64>,
    partition: Vec<i32>,
    offset: Vec<i64>,
    producer: Vec<String>,
    producer_seq: Vec<i64>,
    sample: Vec<u16>,
    prompt: Vec<String>,
    oldest: Vec<i64>,
    newest: Vec<i64>,
    staleness: Vec<i64>,
    tokens: Vec<i64>,
    reward: Vec<f32>,
    advantage: Vec<f32>,
    masked: Vec<Option<f64>>,
}

impl Columns {
    async fn add(&mut self, used: &Used<'_>, reader: &Reader) -> Result<()> {
        let (plan, group) = (used.plan, used.group);
        let mut parts = Vec::with_capacity(group.records.len());
        for record in &group.records {
            let read = reader.message(*record).await?.into_read();
            let (headers, rows) = read.map_err(|bad| Error::ArchivedRecord {
                record: *record,
                reason: format!("is trained and cannot be read: {}", bad.detail),
            })?;
            parts.push((*record, headers, rows));
        }
        let mut rows: Vec<_> = parts
            .iter()
            .flat_map(|part| (0..part.2.len()).map(move |row| (part, row)))
            .collect();
        rows.sort_by_key(|(part, row)| part.2.sample_index(*row));
        let rewards: Vec<f32> = rows.iter().map(|(part, row)| part.2.reward(*row)).collect();
        let lengths: Vec<_> = rows
            .iter()
            .map(|(part, row)| trained_tokens(&part.2, *row))
            .collect();
        let advantages = baseline(&plan.algorithm).advantages(&rewards, &lengths);
        for (place, ((record, headers, batch), row)) in rows.into_iter().enumerate() {
            let newest_known = plan.newest_of(None, &headers.policy);
            let (oldest, newest) = versions(batch, row);
            self.update.push(plan.update().0 as i64);
            self.first_trained.push(used.first_trained.0 as i64);
            self.group.push(group.group.clone());
            self.incarnation.push(i64::from(record.incarnation.0));
            self.partition.push(record.partition.0);
            self.offset.push(record.offset.0);
            self.producer.push(group.producer.clone());
            self.producer_seq.push(group.producer_seq as i64);
            self.sample.push(batch.sample_index(row));
            self.prompt.push(batch.prompt_id(row).to_owned());
            self.oldest.push(oldest as i64);
            self.newest.push(newest as i64);
            self.staleness
                .push(newest_known.0.saturating_sub(oldest) as i64);
            self.tokens.push(batch.completion_tokens(row).len() as i64);
            self.reward.push(rewards[place]);
            self.advantage.push(advantages[place]);
            self.masked.push(used.masked);
        }
        Ok(())
    }

    /// Returns the columns in the order of [`SCHEMA`].
    fn batch(self) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(self.update)),
            Arc::new(Int64Array::from(self.first_trained)),
            Arc::new(StringArray::from(self.group)),
            Arc::new(Int64Array::from(self.incarnation)),
            Arc::new(Int32Array::from(self.partition)),
            Arc::new(Int64Array::from(self.offset)),
            Arc::new(StringArray::from(self.producer)),
            Arc::new(Int64Array::from(self.producer_seq)),
            Arc::new(UInt16Array::from(self.sample)),
            Arc::new(StringArray::from(self.prompt)),
            Arc::new(Int64Array::from(self.oldest)),
            Arc::new(Int64Array::from(self.newest)),
            Arc::new(Int64Array::from(self.staleness)),
            Arc::new(Int64Array::from(self.tokens)),
            Arc::new(Float32Array::from(self.reward)),
            Arc::new(Float32Array::from(self.advantage)),
            Arc::new(Float64Array::from(self.masked)),
        ];
        RecordBatch::try_new(schema(), columns)
            .map_err(|error| Error::Bug(format!("a table of uses: {error}")))
    }
}

/// Returns the oldest and the newest version that sampled tokens of a row.
fn versions(rows: &Rows, row: usize) -> (u64, u64) {
    let versions = || rows.policy_spans(row).map(|span| span.version.0);
    (versions().min().unwrap_or(0), versions().max().unwrap_or(0))
}
