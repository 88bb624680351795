//! Rollouts that each update used: the native part of `vintage.uses`.

use std::{path::PathBuf, sync::Arc};

use arrow::{
    array::{
        ArrayRef, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
        UInt16Array,
    },
    datatypes::{Field, Schema},
};
use pyo3::{prelude::*, types::PyByteArray};
use vintage_archive::Reader;
use vintage_control::{Name, Plan, PlannedGroup, UpdateNumber};
use vintage_flow::{config_file, followers, open_store};
use vintage_learner::{engine::baseline, update::trained_tokens};
use vintage_store::Records;
use vintage_trajectory::Rows;

use crate::{
    fault::{raised, usage},
    read::{archive, arrow, open},
    stream,
};

/// Returns one row for each rollout that an update of `learner` trained (the lead's, if it is
/// `None`), as an Arrow IPC stream.
#[pyfunction]
#[pyo3(signature = (run, *, learner))]
#[expect(
    clippy::needless_pass_by_value,
    reason = "arguments of Python arrive owned"
)]
pub(crate) fn uses(
    py: Python<'_>,
    run: PathBuf,
    learner: Option<String>,
) -> PyResult<Bound<'_, PyByteArray>> {
    let runtime = stream::runtime()?;
    let table = py.detach(|| runtime.block_on(table(&run, learner.as_deref())))?;
    stream::encoded(py, &table)
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

async fn table(run: &std::path::Path, learner: Option<&str>) -> PyResult<RecordBatch> {
    let lead = vintage_config::read(&config_file(run)).map_err(|error| raised(&error.into()))?;
    let name: Name = match learner {
        None => lead.learner.name,
        Some(name) => name
            .parse()
            .map_err(|error| usage(format!("learner={name:?}: {error}")))?,
    };
    let store = open_store(run).map_err(|error| raised(&error))?;
    let records = Records::new(store, name.clone());
    let reader = open(run, None).await?;
    let mut columns = Columns::default();
    let mut update = UpdateNumber::FIRST;
    let mut plans = records.plans(update);
    let mut results = records.results(0..u64::MAX);
    while let Some(plan) = plans.next().await.map_err(|e| raised(&e.into()))? {
        let result = results.next().await.map_err(|e| raised(&e.into()))?;
        let masked = result
            .filter(|result| result.tokens > 0)
            .map(|result| result.masked_tokens as f64 / result.tokens as f64);
        // Groups of a blended archive are in another one.
        let new = plan.groups.iter().filter(|group| group.source.is_none());
        let new = new.map(|group| (group, plan.update()));
        let reused = plan.reused.iter();
        let reused = reused.map(|reused| (&reused.group, reused.first_trained));
        for (group, first_trained) in new.chain(reused) {
            columns
                .add(&plan, group, first_trained, &reader, masked)
                .await?;
        }
        update = update.next();
    }
    if update == UpdateNumber::FIRST {
        let there = followers(run).map_err(|error| raised(&error))?;
        return Err(usage(format!(
            "learner {name} of {} has no plan; the run has {} followers",
            run.display(),
            there.len()
        )));
    }
    columns.batch()
}

impl Columns {
    async fn add(
        &mut self,
        plan: &Plan,
        group: &PlannedGroup,
        first_trained: UpdateNumber,
        reader: &Reader,
        masked: Option<f64>,
    ) -> PyResult<()> {
        let mut found = Vec::new();
        for record in &group.records {
            let message = reader.message(*record).await.map_err(|e| archive(&e))?;
            let (headers, rows) = message.into_read().map_err(|bad| {
                usage(format!(
                    "{record} is trained and cannot be read: {}",
                    bad.detail
                ))
            })?;
            found.push((*record, headers, rows));
        }
        let mut rows: Vec<_> = found
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
            self.first_trained.push(first_trained.0 as i64);
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
            self.masked.push(masked);
        }
        Ok(())
    }

    fn batch(self) -> PyResult<RecordBatch> {
        let columns: [(&str, ArrayRef); 17] = [
            ("update", Arc::new(Int64Array::from(self.update))),
            (
                "first_trained",
                Arc::new(Int64Array::from(self.first_trained)),
            ),
            ("group", Arc::new(StringArray::from(self.group))),
            ("incarnation", Arc::new(Int64Array::from(self.incarnation))),
            ("partition", Arc::new(Int32Array::from(self.partition))),
            ("offset", Arc::new(Int64Array::from(self.offset))),
            ("producer", Arc::new(StringArray::from(self.producer))),
            (
                "producer_seq",
                Arc::new(Int64Array::from(self.producer_seq)),
            ),
            ("sample_index", Arc::new(UInt16Array::from(self.sample))),
            ("prompt_id", Arc::new(StringArray::from(self.prompt))),
            ("oldest_version", Arc::new(Int64Array::from(self.oldest))),
            ("newest_version", Arc::new(Int64Array::from(self.newest))),
            ("staleness", Arc::new(Int64Array::from(self.staleness))),
            ("tokens", Arc::new(Int64Array::from(self.tokens))),
            ("reward", Arc::new(Float32Array::from(self.reward))),
            ("advantage", Arc::new(Float32Array::from(self.advantage))),
            (
                "update_masked_share",
                Arc::new(Float64Array::from(self.masked)),
            ),
        ];
        let fields: Vec<_> = columns
            .iter()
            .map(|(name, column)| {
                let nullable = *name == "update_masked_share";
                Field::new(*name, column.data_type().clone(), nullable)
            })
            .collect();
        let arrays = columns.into_iter().map(|(_, column)| column).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|error| arrow(&error))
    }
}

/// Returns the oldest and the newest version that sampled tokens of a row.
fn versions(rows: &Rows, row: usize) -> (u64, u64) {
    let versions = || rows.policy_spans(row).map(|span| span.version.0);
    (versions().min().unwrap_or(0), versions().max().unwrap_or(0))
}
