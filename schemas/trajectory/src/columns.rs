use std::ops::Range;

use arrow::{
    array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, RecordBatch, StringArray},
    buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::{
        ArrowNativeType, ArrowPrimitiveType, Float32Type, Int32Type, Int64Type,
        TimestampMicrosecondType, UInt16Type,
    },
};

use crate::{
    error::Error,
    trajectory::{BadLogprobMode, LogprobMode},
};

/// Typed columns of a batch. Every value that the domain types cannot hold has been refused.
pub(crate) struct Columns {
    pub(crate) group_id: FixedSizeBinaryArray,
    pub(crate) trajectory_id: FixedSizeBinaryArray,
    pub(crate) group_size: ScalarBuffer<u16>,
    pub(crate) sample_index: ScalarBuffer<u16>,
    pub(crate) policy: StringArray,
    pub(crate) batch: ScalarBuffer<i64>,
    pub(crate) prompt_id: StringArray,
    pub(crate) prompt_tokens: Lists<ScalarBuffer<i32>>,
    pub(crate) completion_tokens: Lists<ScalarBuffer<i32>>,
    pub(crate) behavior_logprobs: Lists<ScalarBuffer<f32>>,
    pub(crate) loss_mask: Lists<BooleanBuffer>,
    pub(crate) policy_spans: Lists<Spans>,
    pub(crate) reward: ScalarBuffer<f32>,
    pub(crate) reward_parts: Lists<(StringArray, ScalarBuffer<f32>)>,
    pub(crate) finish_reason: StringArray,
    pub(crate) temperature: ScalarBuffer<f32>,
    pub(crate) top_p: ScalarBuffer<f32>,
    pub(crate) top_k: ScalarBuffer<i32>,
    pub(crate) logprob_mode: Vec<LogprobMode>,
    pub(crate) engine: StringArray,
    pub(crate) created_at: ScalarBuffer<i64>,
    pub(crate) generation_seconds: ScalarBuffer<f32>,
    pub(crate) prompt_text: StringArray,
    pub(crate) completion_text: StringArray,
    pub(crate) metadata: Lists<(StringArray, StringArray)>,
}

/// Policy spans of all rows, concatenated.
pub(crate) struct Spans {
    pub(crate) start: ScalarBuffer<i32>,
    pub(crate) version: ScalarBuffer<i64>,
}

/// List column: the values of all rows concatenated, and the offsets at which each row's begin.
pub(crate) struct Lists<V> {
    offsets: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
    pub(crate) values: V,
}

impl<V> Lists<V> {
    /// Returns the range of the row's values within `values`.
    pub(crate) fn span(&self, row: usize) -> Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    /// Returns the range of the row's values within `values`; `None` if the row's list is null.
    pub(crate) fn optional_span(&self, row: usize) -> Option<Range<usize>> {
        self.nulls
            .as_ref()
            .is_none_or(|nulls| nulls.is_valid(row))
            .then(|| self.span(row))
    }
}

impl<V> Lists<(StringArray, V)> {
    /// Returns the keys of all maps, and the range of those that belong to the row.
    pub(crate) fn keys(&self, row: usize) -> (&StringArray, Range<usize>) {
        (&self.values.0, self.optional_span(row).unwrap_or(0..0))
    }
}

impl<T: ArrowNativeType> Lists<ScalarBuffer<T>> {
    /// Returns the row's values. Columns of number lists are never null.
    pub(crate) fn row(&self, row: usize) -> &[T] {
        &self.values[self.span(row)]
    }
}

impl Columns {
    /// Reads the columns of a batch whose schema has already been compared with v1's.
    pub(crate) fn of(batch: &RecordBatch) -> Result<Self, Error> {
        let columns = Reader(batch);
        let prompt_tokens = columns.numbers_lists::<Int32Type>("prompt_tokens")?;
        let completion_tokens = columns.numbers_lists::<Int32Type>("completion_tokens")?;
        Ok(Self {
            group_id: columns.required("group_id")?.as_fixed_size_binary().clone(),
            trajectory_id: columns
                .required("trajectory_id")?
                .as_fixed_size_binary()
                .clone(),
            group_size: columns.numbers::<UInt16Type>("group_size")?,
            sample_index: columns.numbers::<UInt16Type>("sample_index")?,
            policy: columns.required("policy")?.as_string().clone(),
            batch: columns.numbers::<Int64Type>("batch")?,
            prompt_id: columns.required("prompt_id")?.as_string().clone(),
            prompt_tokens,
            completion_tokens,
            behavior_logprobs: columns.numbers_lists::<Float32Type>("behavior_logprobs")?,
            loss_mask: columns.masks("loss_mask")?,
            policy_spans: columns.spans("policy_spans")?,
            reward: columns.numbers::<Float32Type>("reward")?,
            reward_parts: columns.maps("reward_parts", |values| {
                values.as_primitive::<Float32Type>().values().clone()
            })?,
            finish_reason: columns.required("finish_reason")?.as_string().clone(),
            temperature: columns.numbers::<Float32Type>("temperature")?,
            top_p: columns.numbers::<Float32Type>("top_p")?,
            top_k: columns.numbers::<Int32Type>("top_k")?,
            logprob_mode: columns.modes("logprob_mode")?,
            engine: columns.required("engine")?.as_string().clone(),
            created_at: columns.numbers::<TimestampMicrosecondType>("created_at")?,
            generation_seconds: columns.numbers::<Float32Type>("generation_seconds")?,
            prompt_text: columns.optional("prompt_text")?.as_string().clone(),
            completion_text: columns.optional("completion_text")?.as_string().clone(),
            metadata: columns.maps("metadata", |values| values.as_string().clone())?,
        })
    }
}

/// Reader that takes typed columns out of a batch by name.
struct Reader<'a>(&'a RecordBatch);

impl<'a> Reader<'a> {
    fn optional(&self, name: &'static str) -> Result<&'a ArrayRef, Error> {
        let absent = || Error::Schema {
            column: name.to_owned(),
            expected: "a column".to_owned(),
            found: "absent".to_owned(),
        };
        self.0.column_by_name(name).ok_or_else(absent)
    }

    fn required(&self, name: &'static str) -> Result<&'a ArrayRef, Error> {
        without_nulls(name, self.optional(name)?)
    }

    fn numbers<T: ArrowPrimitiveType>(
        &self,
        name: &'static str,
    ) -> Result<ScalarBuffer<T::Native>, Error> {
        Ok(self.required(name)?.as_primitive::<T>().values().clone())
    }

    fn numbers_lists<T: ArrowPrimitiveType>(
        &self,
        name: &'static str,
    ) -> Result<Lists<ScalarBuffer<T::Native>>, Error> {
        let lists = self.required(name)?.as_list::<i32>();
        let values = without_nulls(name, lists.values())?
            .as_primitive::<T>()
            .values()
            .clone();
        Ok(Lists {
            offsets: lists.offsets().clone(),
            nulls: None,
            values,
        })
    }

    fn masks(&self, name: &'static str) -> Result<Lists<BooleanBuffer>, Error> {
        let lists = self.optional(name)?.as_list::<i32>();
        let values = without_nulls(name, lists.values())?
            .as_boolean()
            .values()
            .clone();
        Ok(Lists {
            offsets: lists.offsets().clone(),
            nulls: lists.nulls().cloned(),
            values,
        })
    }

    fn maps<V>(
        &self,
        name: &'static str,
        typed: impl Fn(&ArrayRef) -> V,
    ) -> Result<Lists<(StringArray, V)>, Error> {
        let maps = self.optional(name)?.as_map();
        let keys = without_nulls(name, maps.keys())?.as_string().clone();
        let values = typed(without_nulls(name, maps.values())?);
        let (offsets, nulls) = (maps.offsets().clone(), maps.nulls().cloned());
        Ok(Lists {
            offsets,
            nulls,
            values: (keys, values),
        })
    }

    /// Reads lists of policy spans. Versions are `i64` on the wire; negative ones are refused.
    fn spans(&self, name: &'static str) -> Result<Lists<Spans>, Error> {
        let lists = self.required(name)?.as_list::<i32>();
        let fields = without_nulls(name, lists.values())?.as_struct();
        let start = without_nulls(name, fields.column(0))?.as_primitive::<Int32Type>();
        let version = without_nulls(name, fields.column(1))?.as_primitive::<Int64Type>();
        let spans = Lists {
            offsets: lists.offsets().clone(),
            nulls: None,
            values: Spans {
                start: start.values().clone(),
                version: version.values().clone(),
            },
        };
        for row in 0..self.0.num_rows() {
            let versions = &spans.values.version[spans.span(row)];
            if let Some(version) = versions.iter().find(|&&version| version < 0) {
                let reason = format!("policy version {version} is negative");
                return Err(Error::Value {
                    row,
                    column: name,
                    reason,
                });
            }
        }
        Ok(spans)
    }

    fn modes(&self, name: &'static str) -> Result<Vec<LogprobMode>, Error> {
        let texts = self.required(name)?.as_string::<i32>();
        (0..texts.len())
            .map(|row| {
                texts
                    .value(row)
                    .parse()
                    .map_err(|error: BadLogprobMode| Error::Value {
                        row,
                        column: name,
                        reason: error.to_string(),
                    })
            })
            .collect()
    }
}

fn without_nulls<'a>(column: &'static str, array: &'a ArrayRef) -> Result<&'a ArrayRef, Error> {
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => Ok(array),
        Some(nulls) => {
            let first = nulls.iter().position(|valid| !valid).unwrap_or_default();
            let reason = format!("element {first} is null, and nulls are not allowed there");
            Err(Error::Nulls { column, reason })
        }
    }
}
