"""Archives a topic of Arrow messages as Parquet, as one does with pyarrow and confluent-kafka.

The files have the codec, the encodings, the size and the syncs of vintage's own. They keep neither
keys nor headers, and nothing says where a second start would resume.

usage: drain.py BROKERS TOPIC FOLDER ZSTD_LEVEL
"""
import json
import os
import resource
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Consumer, KafkaError, TopicPartition

brokers, topic, folder, level = sys.argv[1:]
FILE_BYTES = 64 << 20
SPLIT = {f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in
         ("prompt_tokens", "completion_tokens", "behavior_logprobs")}
os.makedirs(folder, exist_ok=True)


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


consumer = Consumer({
    "bootstrap.servers": brokers, "group.id": "bench-pyarrow", "enable.auto.commit": False,
    "auto.offset.reset": "error", "check.crcs": True, "enable.partition.eof": True,
    "queued.max.messages.kbytes": 4096, "fetch.queue.backoff.ms": 10,
})
partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
begun, before = time.monotonic(), cpu()
consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
held = {partition: ([], 0, 0) for partition in partitions}
done = dict(messages=0, rows=0, files=0, file_bytes=0, token_bytes=0)


def write(partition):
    batches, first, _ = held[partition]
    if not batches:
        return
    table = pa.Table.from_batches(batches)
    dictionary = [name for name in ("policy", "prompt_id", "finish_reason", "logprob_mode", "engine")
                  if name in table.column_names]
    path = f"{folder}/{partition}-{first:020}.parquet"
    with open(path + ".part", "wb") as file:
        pq.write_table(table, file, compression="zstd", compression_level=int(level),
                       use_dictionary=dictionary, column_encoding=SPLIT,
                       write_statistics=False, store_schema=False)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".part", path)
    entry = os.open(folder, os.O_RDONLY)
    os.fsync(entry)
    os.close(entry)
    done["files"] += 1
    done["file_bytes"] += os.path.getsize(path)
    held[partition] = ([], 0, 0)


open_partitions = set(partitions)
while open_partitions:
    for message in consumer.consume(500, timeout=1.0):
        partition = message.partition()
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                sys.exit(str(error))
            open_partitions.discard(partition)
            continue
        payload = message.value()
        with pa.ipc.open_stream(payload) as reader:
            batch = reader.read_next_batch()
        rows = batch.num_rows
        batch = batch.append_column("_kafka_partition", pa.repeat(pa.scalar(partition, pa.int32()), rows))
        batch = batch.append_column("_kafka_offset", pa.repeat(pa.scalar(message.offset(), pa.int64()), rows))
        batches, first, size = held[partition]
        first = first if batches else message.offset()
        batches.append(batch)
        held[partition] = (batches, first, size + len(payload))
        done["messages"] += 1
        done["rows"] += rows
        if size + len(payload) >= FILE_BYTES:
            write(partition)
for partition in partitions:
    write(partition)
done["wall_seconds"] = time.monotonic() - begun
done["cpu_seconds"] = cpu() - before
done["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
for name in os.listdir(folder):
    metadata = pq.read_metadata(f"{folder}/{name}")
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            if column.path_in_schema.split(".")[0] in ("completion_tokens", "behavior_logprobs"):
                done["token_bytes"] += column.total_compressed_size
print(json.dumps(done))
