use std::collections::BTreeMap;

use parquet::{
    basic::Encoding,
    file::{
        metadata::ColumnChunkMetaData,
        reader::{FileReader as _, SerializedFileReader},
    },
};

use super::*;
use crate::fixture::{Log, archive, scratch};

/// Returns the column chunks of the first row group of an archive file, by path.
async fn chunks() -> BTreeMap<String, ColumnChunkMetaData> {
    let (_folder, store) = scratch();
    archive(&store, &Log::small(1, 30)).await;
    let file = store
        .list("v1")
        .await
        .unwrap()
        .into_iter()
        .find(|p| p.ends_with(".parquet"));
    let bytes = store.get(&file.unwrap()).await.unwrap().unwrap();
    let reader = SerializedFileReader::new(bytes).unwrap();
    let group = reader.metadata().row_group(0);
    group
        .columns()
        .iter()
        .map(|chunk| (chunk.column_path().string(), chunk.clone()))
        .collect()
}

fn encodings(chunk: &ColumnChunkMetaData) -> Vec<Encoding> {
    // RLE is the encoding of the levels.
    chunk
        .encodings()
        .filter(|encoding| *encoding != Encoding::RLE)
        .collect()
}

/// Checks the metadata of a file as written: the writer silently ignores a setting for a path that
/// does not exist, and the path of a list's leaf is easy to get wrong.
#[tokio::test]
async fn each_column_is_encoded_as_its_values_need() {
    let mut chunks = chunks().await;
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).unwrap());
    let mut check = |paths: &[&str], encoding, compression| {
        for path in paths {
            let chunk = chunks
                .remove(*path)
                .unwrap_or_else(|| panic!("no column {path}"));
            assert_eq!(encodings(&chunk), [encoding], "{path}");
            assert_eq!(chunk.compression(), compression, "{path}");
            assert_eq!(chunk.dictionary_page_offset(), None, "{path}");
        }
    };
    let tokens = [
        "prompt_tokens.list.item",
        "completion_tokens.list.item",
        "behavior_logprobs.list.item",
    ];
    check(&tokens, Encoding::BYTE_STREAM_SPLIT, zstd);
    check(
        &["generation_seconds"],
        Encoding::BYTE_STREAM_SPLIT,
        Compression::UNCOMPRESSED,
    );
    let ascending = [
        "_kafka_offset",
        "_kafka_timestamp",
        "_kafka_partition",
        "_row_in_msg",
        "_bad_payload_bytes",
        "policy_spans.list.item.version",
        "policy_spans.list.item.start",
        "batch",
        "created_at",
        "group_size",
        "sample_index",
        "top_k",
    ];
    check(
        &ascending,
        Encoding::DELTA_BINARY_PACKED,
        Compression::UNCOMPRESSED,
    );
    let digests = [
        "trajectory_id",
        "_key",
        "_payload_crc32c",
        "_bad_payload_sha256",
    ];
    check(&digests, Encoding::PLAIN, Compression::UNCOMPRESSED);
    check(
        &["_bad_reason", "_bad_payload"],
        Encoding::PLAIN,
        Compression::UNCOMPRESSED,
    );
    let texts = [
        "group_id",
        "loss_mask.list.item",
        "prompt_text",
        "completion_text",
        "metadata.entries.value",
        "_headers.list.item.value",
    ];
    check(&texts, Encoding::PLAIN, zstd);
    for path in [
        "policy",
        "prompt_id",
        "finish_reason",
        "logprob_mode",
        "engine",
        "reward",
        "temperature",
        "top_p",
        "reward_parts.entries.key",
        "reward_parts.entries.value",
        "metadata.entries.key",
        "_headers.list.item.key",
    ] {
        let chunk = chunks
            .remove(path)
            .unwrap_or_else(|| panic!("no column {path}"));
        assert!(chunk.dictionary_page_offset().is_some(), "{path}");
        assert!(
            encodings(&chunk).contains(&Encoding::RLE_DICTIONARY),
            "{path}"
        );
        assert_eq!(chunk.compression(), Compression::UNCOMPRESSED, "{path}");
    }
    assert_eq!(
        chunks.keys().collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "columns not decided on"
    );
}

#[tokio::test]
async fn what_readers_prune_by_has_statistics_and_nothing_else() {
    let chunks = chunks().await;
    for path in [
        "_kafka_offset",
        "_kafka_timestamp",
        "policy_spans.list.item.version",
        "reward",
    ] {
        assert!(chunks[path].statistics().is_some(), "{path}");
    }
    for path in [
        "prompt_tokens.list.item",
        "completion_tokens.list.item",
        "behavior_logprobs.list.item",
        "trajectory_id",
        "prompt_text",
    ] {
        assert!(chunks[path].statistics().is_none(), "{path}");
    }
}

#[test]
fn an_impossible_level_is_refused() {
    assert!(properties(Codec::Zstd(99), false).is_err());
    assert!(properties(Codec::Uncompressed, false).is_ok());
}
