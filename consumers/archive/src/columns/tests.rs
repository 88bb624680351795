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

/// Column chunks of the first row group of an archive file, by path.
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
    // RLE is that of the levels.
    chunk
        .encodings()
        .filter(|encoding| *encoding != Encoding::RLE)
        .collect()
}

/// On the metadata of a file as written: the writer takes a setting for a path that does not
/// exist without a word, and the path of a list's leaf is easy to get wrong.
#[tokio::test]
async fn each_column_is_encoded_as_its_values_need() {
    let chunks = chunks().await;
    let all = |paths: &[&str], expected: &[Encoding]| {
        for path in paths {
            let chunk = &chunks[*path];
            let mut found = encodings(chunk);
            found.sort_unstable();
            assert_eq!(found, expected, "{path}");
            assert_eq!(chunk.compression(), Codec::default_compression(), "{path}");
        }
    };
    all(
        &[
            "prompt_tokens.list.item",
            "completion_tokens.list.item",
            "behavior_logprobs.list.item",
            "reward",
            "temperature",
        ],
        &[Encoding::BYTE_STREAM_SPLIT],
    );
    all(
        &[
            "_kafka_offset",
            "_kafka_timestamp",
            "_kafka_partition",
            "_row_in_msg",
            "policy_spans.list.item.version",
            "policy_spans.list.item.start",
            "batch",
            "created_at",
            "group_size",
            "sample_index",
            "top_k",
        ],
        &[Encoding::DELTA_BINARY_PACKED],
    );
    all(
        &[
            "group_id",
            "trajectory_id",
            "prompt_text",
            "_key",
            "_headers.list.item.value",
        ],
        &[Encoding::PLAIN],
    );
    all(
        &["_payload_crc32c", "loss_mask.list.item"],
        &[Encoding::PLAIN],
    );
    for path in [
        "policy",
        "prompt_id",
        "finish_reason",
        "logprob_mode",
        "engine",
        "_headers.list.item.key",
        "metadata.entries.key",
    ] {
        let found = encodings(&chunks[path]);
        let dictionary = found.contains(&Encoding::RLE_DICTIONARY);
        assert!(dictionary || found.is_empty(), "{path}: {found:?}");
        assert!(chunks[path].dictionary_page_offset().is_some(), "{path}");
    }
    let with_dictionary = chunks
        .values()
        .filter(|chunk| chunk.dictionary_page_offset().is_some());
    assert_eq!(
        with_dictionary.count(),
        8,
        "dictionaries are for texts of few values only"
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
    assert!(properties(Codec::Zstd(99)).is_err());
    assert!(properties(Codec::Uncompressed).is_ok());
}

impl Codec {
    fn default_compression() -> Compression {
        Compression::ZSTD(ZstdLevel::try_new(1).unwrap())
    }
}
