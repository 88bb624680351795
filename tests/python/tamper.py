"""Adds 1e-3 to one archived log-prob of partition 0, rewriting its first file with pyarrow.

usage: tamper.py RUN_FOLDER; prints the offset of the message it changed."""

import glob
import sys

import pyarrow as pa
import pyarrow.parquet as pq

path = sorted(glob.glob(f"{sys.argv[1]}/archive/v1/*/*/p=00000/*.parquet"))[0]
table = pq.read_table(path, partitioning=None)
column = table.schema.get_field_index("behavior_logprobs")
values = table.column(column).to_pylist()
values[0][0] -= 1e-3
changed = pa.array(values, type=table.schema.field(column).type)
table = table.set_column(column, table.schema.field(column), changed)
pq.write_table(table, path)
print(table.column("_kafka_offset")[0].as_py())
