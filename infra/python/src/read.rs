//! Archived rollouts as Arrow: the native part of `vintage.read`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use arrow::{
    array::{Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray},
    compute::concat_batches,
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use pyo3::{exceptions::PyRuntimeError, prelude::*, types::PyByteArray};
use tokio::runtime::Runtime;
use vintage_archive::{GroupSample, Groups, PromptPattern, Selection};
use vintage_control::{Offset, Partition, PolicyVersion, RecordId};
use vintage_flow::{archive_in, config_file, open_store};
use vintage_store::Store;
use vintage_trajectory::{Headers, Rows};

use crate::{
    fault::{Error, raised, usage},
    live::Live,
    stream,
};

/// Stream of the groups of an archive that a selection takes.
#[pyclass(module = "vintage._native", frozen)]
pub(crate) struct Reader {
    inner: Mutex<Inner>,
}

struct Inner {
    runtime: Runtime,
    /// Groups of the archive; `None` if there is none, or at its end.
    groups: Option<Groups>,
    /// Log behind the archive.
    live: Option<Live>,
    /// First offset of each partition that was not read from the archive.
    archived: BTreeMap<Partition, Offset>,
    columns: Option<Vec<String>>,
}

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (source, *, live, topic, columns, versions, times_ms, rewards, prompts, sample))]
    #[expect(
        clippy::too_many_arguments,
        clippy::needless_pass_by_value,
        reason = "named ones, which arrive owned, of a class whose only caller is vintage/reading.py"
    )]
    fn new(
        py: Python<'_>,
        source: PathBuf,
        live: bool,
        topic: Option<String>,
        columns: Option<Vec<String>>,
        versions: Option<(u64, u64)>,
        times_ms: Option<(i64, i64)>,
        rewards: Option<(f64, f64)>,
        prompts: Vec<String>,
        sample: Option<(f64, u64)>,
    ) -> PyResult<Self> {
        let selection = Selection {
            versions: versions.map(|(a, b)| PolicyVersion(a)..=PolicyVersion(b)),
            timestamps_ms: times_ms.map(|(a, b)| a..=b),
            rewards: rewards.map(|(a, b)| a..=b),
            prompts: prompts.into_iter().map(PromptPattern).collect(),
            sample: sample.map(|(share, seed)| GroupSample { share, seed }),
            ..Selection::default()
        };
        let runtime = stream::runtime()?;
        let (groups, live) =
            py.detach(|| runtime.block_on(sources(&source, live, topic, &selection)))?;
        Ok(Self {
            inner: Mutex::new(Inner {
                runtime,
                groups,
                live,
                archived: BTreeMap::new(),
                columns,
            }),
        })
    }

    /// Returns the next batch of at least `rows` rows, or of what is left, as an Arrow IPC stream;
    /// `None` at the end.
    fn next<'py>(&self, py: Python<'py>, rows: usize) -> PyResult<Option<Bound<'py, PyByteArray>>> {
        let mut inner = self.inner.try_lock().map_err(|_| {
            PyRuntimeError::new_err("another thread reads from this reader: open one for each")
        })?;
        let inner = &mut *inner;
        let read = py.detach(|| inner.read(rows))?;
        read.map(|batch| stream::encoded(py, &batch)).transpose()
    }
}

impl Inner {
    fn read(&mut self, rows: usize) -> PyResult<Option<RecordBatch>> {
        let Self {
            runtime,
            groups,
            live,
            archived,
            columns,
        } = self;
        let mut parts = Vec::new();
        let mut count = 0;
        runtime.block_on(async {
            while count < rows.max(1) {
                let group = match groups {
                    Some(groups) => groups.next().await.map_err(|error| archive(&error))?,
                    None => None,
                };
                let Some(group) = group else {
                    *groups = None;
                    let Some(live) = live else { break };
                    let Some(part) = live.next(archived).await? else {
                        break;
                    };
                    count += part.num_rows();
                    parts.push(part);
                    continue;
                };
                for message in group.load().await.map_err(|error| archive(&error))? {
                    let record = message.record;
                    archived.insert(record.partition, record.offset.next());
                    // What could not be decoded is left out.
                    let (Ok(rows), Ok(headers)) = (&message.rows, &message.headers) else {
                        continue;
                    };
                    let part = placed(rows, headers, record, message.timestamp_ms)?;
                    count += part.num_rows();
                    parts.push(part);
                }
            }
            Ok::<_, PyErr>(())
        })?;
        let Some(first) = parts.first() else {
            return Ok(None);
        };
        let batch = concat_batches(&first.schema(), &parts).map_err(|error| arrow(&error))?;
        let Some(columns) = columns else {
            return Ok(Some(batch));
        };
        let schema = batch.schema();
        let indices = columns.iter().map(|name| {
            schema.index_of(name).map_err(|_| {
                let there: Vec<_> = schema
                    .fields()
                    .iter()
                    .map(|field| field.name().as_str())
                    .collect();
                usage(format!(
                    "there is no column {name:?}: there are {}",
                    there.join(", ")
                ))
            })
        });
        let indices = indices.collect::<PyResult<Vec<_>>>()?;
        batch
            .project(&indices)
            .map(Some)
            .map_err(|error| arrow(&error))
    }
}

/// Opens what is read: the archive, and behind it the log if it is read `live`, or a topic alone.
async fn sources(
    source: &Path,
    live: bool,
    topic: Option<String>,
    selection: &Selection,
) -> PyResult<(Option<Groups>, Option<Live>)> {
    if let Some(topic) = Live::of_topic(&source.to_string_lossy()).await? {
        return Ok((None, Some(topic)));
    }
    let (reader, tail) = if live {
        // The log is opened first: what is archived meanwhile is then in both, and nothing in neither.
        let (reader, tail) = Live::of_run(source).await?;
        (reader, Some(tail))
    } else {
        (open(source, topic.as_deref()).await?, None)
    };
    let groups = reader.groups(selection).await;
    Ok((Some(groups.map_err(|error| archive(&error))?), tail))
}

/// Opens the archive of a run's folder, of a folder of its own, or of a bucket.
pub(crate) async fn open(source: &Path, topic: Option<&str>) -> PyResult<vintage_archive::Reader> {
    let store = if config_file(source).is_file() {
        archive_in(&open_store(source).map_err(|error| raised(&error))?)
    } else {
        Store::open(&source.to_string_lossy()).map_err(|error| raised(&error.into()))?
    };
    let topics = |store: Store| async move {
        let topics = vintage_archive::Reader::topics(&store).await;
        topics.map_err(|error| archive(&error))
    };
    let mut place = store.clone();
    let mut found = topics(store.clone()).await?;
    if found.is_empty() {
        place = archive_in(&store);
        found = topics(place.clone()).await?;
    }
    match (topic, &found[..]) {
        (Some(topic), _) if found.iter().any(|there| there == topic) => {
            Ok(vintage_archive::Reader::new(place, topic))
        }
        (None, [only]) => Ok(vintage_archive::Reader::new(place, only)),
        (None, []) => Err(usage(format!(
            "{} holds no archive: name the folder of a run, or one that holds v1/topic=…",
            source.display()
        ))),
        (Some(topic), _) => Err(usage(format!(
            "{} holds no archive of {topic}: there are {}",
            source.display(),
            found.join(", ")
        ))),
        (None, _) => Err(usage(format!(
            "{} holds the archives of {}: name one as topic",
            source.display(),
            found.join(", ")
        ))),
    }
}

/// Returns the rows of a message with its place in the log behind them.
pub(crate) fn placed(
    rows: &Rows,
    headers: &Headers,
    record: RecordId,
    timestamp_ms: Option<i64>,
) -> PyResult<RecordBatch> {
    let batch = rows.batch();
    let count = batch.num_rows();
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    let stamp = TimestampMillisecondArray::from(vec![timestamp_ms; count]);
    let added: [(&str, arrow::array::ArrayRef); 6] = [
        (
            "incarnation",
            Arc::new(Int64Array::from_value(
                i64::from(record.incarnation.0),
                count,
            )),
        ),
        (
            "partition",
            Arc::new(Int32Array::from_value(record.partition.0, count)),
        ),
        (
            "offset",
            Arc::new(Int64Array::from_value(record.offset.0, count)),
        ),
        ("timestamp", Arc::new(stamp.with_data_type(time))),
        (
            "producer",
            Arc::new(StringArray::from(vec![headers.producer.as_str(); count])),
        ),
        (
            "producer_seq",
            Arc::new(Int64Array::from_value(headers.producer_seq as i64, count)),
        ),
    ];
    let mut columns = batch.columns().to_vec();
    for (name, column) in added {
        let nullable = name == "timestamp";
        fields.push(Arc::new(Field::new(
            name,
            column.data_type().clone(),
            nullable,
        )));
        columns.push(column);
    }
    let schema = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, columns).map_err(|error| arrow(&error))
}

pub(crate) fn archive(error: &vintage_archive::Error) -> PyErr {
    Error::new_err(error.to_string())
}

pub(crate) fn arrow(error: &arrow::error::ArrowError) -> PyErr {
    Error::new_err(format!("making Arrow batches: {error}"))
}
