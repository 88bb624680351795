use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, Float32Builder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder},
    datatypes::{Field, Schema, SchemaRef},
    ipc::writer::{IpcWriteOptions, StreamWriter},
};
use proptest::{option, prelude::*};
use vintage_control::PolicyVersion;
use vintage_trajectory::{
    Error, GroupId, LogprobMode, PolicySpan, Rows, TIMES_US, Trajectory, encode, encoded_len,
    schema,
};

use crate::sample::{full, minimal};

#[test]
fn what_is_encoded_decodes_to_the_same() {
    for rows in [
        vec![full()],
        vec![minimal()],
        vec![full(), minimal(), full()],
    ] {
        examine(&rows);
    }
}

#[test]
fn views_read_single_values() {
    let rows = Rows::decode(&encode(&[minimal(), full()]).unwrap()).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows.prompt_tokens(1), [5, 9, 2, 130_000]);
    assert_eq!(
        rows.behavior_logprobs(1)[1].to_bits(),
        (-1.25_f32).to_bits()
    );
    assert_eq!(rows.loss_mask(0), None);
    assert_eq!(
        rows.loss_mask(1).unwrap().iter().collect::<Vec<_>>(),
        [true, true, false, true, true]
    );
    let trained = |row| {
        (0..6)
            .map(|token| rows.is_trained(row, token))
            .collect::<Vec<_>>()
    };
    assert_eq!(trained(1), [true, true, false, true, true, false]);
    assert!(rows.is_trained(0, 0));
    let versions = (0..5)
        .map(|token| rows.version_of(1, token).0)
        .collect::<Vec<_>>();
    assert_eq!(versions, [3, 3, 5, 5, 5]);
    assert_eq!(rows.min_version(), Some(PolicyVersion(0)));
    assert_eq!(rows.max_version(), Some(PolicyVersion(5)));
    assert_eq!(rows.logprob_mode(0), LogprobMode::Raw);
    assert_eq!(rows.prompt_text(0), None);
    assert_eq!(rows.prompt_text(1), Some("3+4×5="));
    assert_eq!(
        rows.reward_parts(1).unwrap().collect::<Vec<_>>(),
        [("correct", 1.0), ("length", -0.25)]
    );
    assert!(rows.metadata(0).is_none());
    assert_eq!(rows.trajectory_id(1), full().trajectory_id());
}

/// A slice of a larger batch reads like a batch of its own, as needed for the archive's row groups.
#[test]
fn slices_read_like_wholes() {
    let all = [full(), minimal(), full(), minimal()];
    let batch = Rows::decode(&encode(&all).unwrap())
        .unwrap()
        .batch()
        .clone();
    for start in 0..all.len() {
        for end in start + 1..=all.len() {
            let rows = Rows::from_batch(batch.slice(start, end - start)).unwrap();
            assert_eq!(rows.to_trajectories(), all[start..end]);
        }
    }
}

/// Checks another writer's alignment, padding, validity bitmaps and declared nullability.
#[test]
fn streams_of_the_arrow_library_are_read() {
    let rows = [full(), minimal()];
    let batch = Rows::decode(&encode(&rows).unwrap())
        .unwrap()
        .batch()
        .clone();
    let nullable: Vec<Field> = schema()
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    let nullable = SchemaRef::new(Schema::new(nullable));
    let foreign = RecordBatch::try_new(nullable, batch.columns().to_vec()).unwrap();
    for alignment in [8, 64] {
        for batch in [&batch, &foreign] {
            let message = write(&batch.schema(), std::slice::from_ref(batch), alignment);
            assert_eq!(Rows::decode(&message).unwrap().to_trajectories(), rows);
        }
    }
}

#[test]
fn a_stream_is_one_schema_one_batch_and_an_end() {
    let message = encode(&[full()]).unwrap();
    let batch = Rows::decode(&message).unwrap().batch().clone();
    refuse(&[], "after 0 bytes of 8");
    refuse(b"ARROW1\0\0 is the file format", "continuation marker");
    refuse(&message[..message.len() - 8], "ends inside a frame header");
    refuse(
        &[&message[..], &[0]].concat(),
        "1 bytes follow its end-of-stream",
    );
    refuse(
        &[&message[..], &message[..]].concat(),
        "follow its end-of-stream",
    );
    refuse(&write(&schema(), &[], 8), "no record batch");
    refuse(
        &write(&schema(), &[batch.clone(), batch.clone()], 8),
        "more than one record batch",
    );
    refuse(&write(&schema(), &[batch.slice(0, 0)], 8), "no rows");
    let mut message = message.to_vec();
    message[4..8].copy_from_slice(&(1_u32 << 30).to_le_bytes());
    refuse(&message, "claims 1073741824 bytes of metadata");
}

#[test]
fn other_columns_are_named() {
    let batch = Rows::decode(&encode(&[full()]).unwrap())
        .unwrap()
        .batch()
        .clone();
    let mut without = batch.clone();
    without.remove_column(24);
    let mut shifted = batch.clone();
    shifted.remove_column(4);
    let mut columns = batch.columns().to_vec();
    columns.push(batch.column(4).clone());
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    fields.push(Field::new("surprise", batch.column(4).data_type().clone(), false).into());
    let more = RecordBatch::try_new(SchemaRef::new(Schema::new(fields)), columns).unwrap();
    for (batch, column) in [
        (without, "metadata"),
        (shifted, "policy"),
        (more, "surprise"),
    ] {
        let message = write(&batch.schema(), std::slice::from_ref(&batch), 8);
        for result in [Rows::decode(&message), Rows::from_batch(batch)] {
            let error = result.unwrap_err();
            let Error::Schema { column: found, .. } = &error else {
                panic!("{error}")
            };
            assert!(found == column || found == "#25", "{error}");
        }
    }
}

#[test]
fn values_the_schema_has_no_room_for_are_refused() {
    let mut row = full();
    row.policy_spans[1].version = PolicyVersion(u64::MAX);
    let error = Rows::decode(&encode(&[minimal(), row]).unwrap()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Value {
                row: 1,
                column: "policy_spans",
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(encode(&[]), Err(Error::NoRows)));
}

/// Values that make a file unreadable for DuckDB, Polars, pandas or Python are refused in messages.
/// Archives written before that rule are still read by our own reader.
#[test]
fn what_other_readers_of_an_archive_refuse_is_refused_here() {
    let refused = |batch: &RecordBatch, row: usize, column: &str, part: &str| {
        let error = Rows::decode(&write(&schema(), std::slice::from_ref(batch), 8)).unwrap_err();
        let named = matches!(&error, Error::Value { row: at, column: of, .. } if (*at, *of) == (row, column));
        assert!(named && error.to_string().contains(part), "{error}");
        assert_eq!(Rows::from_batch(batch.clone()).unwrap().len(), 2);
    };
    for time in [i64::MIN, -1, 1_790_000_000_000_000_000, i64::MAX] {
        let mut row = full();
        row.created_at_us = time;
        let error = Rows::decode(&encode(&[minimal(), row.clone()]).unwrap()).unwrap_err();
        assert!(
            error.to_string().contains("row 1, column created_at"),
            "{error}"
        );
    }
    for entries in [["a", "a"], ["", ""]] {
        let batch = Rows::decode(&encode(&[minimal(), full()]).unwrap())
            .unwrap()
            .batch()
            .clone();
        let mut texts = MapBuilder::new(Some(names()), StringBuilder::new(), StringBuilder::new());
        let mut parts = MapBuilder::new(Some(names()), StringBuilder::new(), Float32Builder::new());
        for (key, number) in entries.into_iter().zip([1.0, 2.0]) {
            texts.keys().append_value(key);
            texts.values().append_value(key);
            parts.keys().append_value(key);
            parts.values().append_value(number);
        }
        texts.append(true).unwrap();
        texts.append(false).unwrap();
        parts.append(true).unwrap();
        parts.append(false).unwrap();
        let columns: [(&str, ArrayRef); 2] = [
            ("metadata", Arc::new(texts.finish())),
            ("reward_parts", Arc::new(parts.finish())),
        ];
        for (name, column) in columns {
            let place = batch.schema().index_of(name).unwrap();
            let mut all = batch.columns().to_vec();
            let kind = batch.schema().field(place).data_type().clone();
            all[place] = arrow::compute::cast(&column, &kind).unwrap();
            let batch = RecordBatch::try_new(batch.schema(), all).unwrap();
            refused(&batch, 0, name, &format!("key {:?} twice", entries[0]));
        }
    }
}

fn names() -> MapFieldNames {
    MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    }
}

fn write(schema: &Schema, batches: &[RecordBatch], alignment: usize) -> Vec<u8> {
    let options =
        IpcWriteOptions::try_new(alignment, false, arrow::ipc::MetadataVersion::V5).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), schema, options).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn refuse(message: &[u8], reason: &str) {
    let error = Rows::decode(message).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

fn examine(rows: &[Trajectory]) {
    let message = encode(rows).unwrap();
    assert_eq!(message.len(), encoded_len(rows).unwrap());
    let decoded = Rows::decode(&message).unwrap();
    assert_eq!(decoded.to_trajectories(), rows);
    assert_eq!(decoded.batch().schema(), schema());
    let again = Rows::from_batch(decoded.batch().clone()).unwrap();
    assert_eq!(encode(&again.to_trajectories()).unwrap(), message);
    // The Arrow library's own encoding of the batch is read as the same rows.
    let theirs = write(&schema(), std::slice::from_ref(decoded.batch()), 8);
    assert_eq!(Rows::decode(&theirs).unwrap().to_trajectories(), rows);
}

prop_compose! {
    fn tokens()(
        completion in prop::collection::vec((any::<i32>(), number(), any::<bool>()), 0..40),
        masked in any::<bool>(),
    ) -> (Vec<i32>, Vec<f32>, Option<Vec<bool>>) {
        let ids = completion.iter().map(|each| each.0).collect();
        let logprobs = completion.iter().map(|each| each.1).collect();
        let mask = masked.then(|| completion.iter().map(|each| each.2).collect());
        (ids, logprobs, mask)
    }
}

prop_compose! {
    fn texts()(
        texts in prop::array::uniform4(any::<String>()),
        optional in prop::array::uniform2(option::of(any::<String>())),
        parts in option::of(prop::collection::btree_map(any::<String>(), number(), 0..4)),
        metadata in option::of(prop::collection::btree_map(any::<String>(), any::<String>(), 0..4)),
    ) -> ([String; 4], [Option<String>; 2], Option<BTreeMap<String, f32>>, Option<BTreeMap<String, String>>) {
        (texts, optional, parts, metadata)
    }
}

prop_compose! {
    fn trajectory()(
        (completion_tokens, behavior_logprobs, loss_mask) in tokens(),
        (texts, optional, reward_parts, metadata) in texts(),
        prompt_tokens in prop::collection::vec(any::<i32>(), 0..20),
        spans in prop::collection::vec((any::<i32>(), 0..=i64::MAX as u64), 0..4),
        ids in any::<([u8; 16], u16, u16)>(),
        integers in (any::<i64>(), any::<i32>(), TIMES_US),
        floats in prop::array::uniform4(number()),
        mode in prop::sample::select(vec![LogprobMode::Full, LogprobMode::Truncated, LogprobMode::Raw]),
    ) -> Trajectory {
        let [policy, prompt_id, finish_reason, engine] = texts;
        let [prompt_text, completion_text] = optional;
        let [reward, temperature, top_p, generation_seconds] = floats;
        let span = |(start, version)| PolicySpan { start, version: PolicyVersion(version) };
        Trajectory {
            group_id: GroupId(ids.0), group_size: ids.1, sample_index: ids.2, policy, batch: integers.0,
            prompt_id, prompt_tokens, completion_tokens, behavior_logprobs, loss_mask,
            policy_spans: spans.into_iter().map(span).collect(),
            reward, reward_parts, finish_reason, temperature, top_p, top_k: integers.1,
            logprob_mode: mode, engine, created_at_us: integers.2, generation_seconds,
            prompt_text, completion_text, metadata,
        }
    }
}

/// Any float except NaN, which is not equal to itself; infinities and −0 are included.
fn number() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("NaN is not equal to itself", |value| !value.is_nan())
}

proptest! {
    /// Encoding preserves any rows, even ones that make no sense.
    #[test]
    fn encode_then_decode_is_the_identity(rows in prop::collection::vec(trajectory(), 1..10)) {
        examine(&rows);
    }
}

/// Encoding preserves the bits of −0 (which `==` takes for 0) and of NaNs.
#[test]
fn bits_survive() {
    let mut row = full();
    let bits = [0x8000_0000, 0x7fc0_1234, 0xff80_0000, 1, 0x3f80_0001];
    row.behavior_logprobs = bits.map(f32::from_bits).to_vec();
    let rows = Rows::decode(&encode(&[row]).unwrap()).unwrap();
    assert_eq!(
        rows.behavior_logprobs(0)
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>(),
        bits
    );
}
