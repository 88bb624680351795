"""Writes the golden files beside it with pyarrow: data sets in the shapes in which they are published."""

import datetime
import decimal
import gzip
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent


def write(name, table, **options):
    pq.write_table(table, HERE / f"{name}.parquet", **options)


# GSM8K: two columns of text.
write("gsm8k", pa.table({
    "question": [f"Ann has {n} pens and buys 2 more. How many has she?" for n in range(3)],
    "answer": [f"{n} + 2 = {n + 2} pens.\n#### {n + 2}" for n in range(3)],
}))

# verl: messages, and structs whose members differ by row; a number that pandas made a float.
message = pa.struct([("content", pa.string()), ("role", pa.string())])
write("verl", pa.table({
    "data_source": ["mine/sums"] * 3,
    "prompt": pa.array([[{"content": f"{n}+2=", "role": "user"}] for n in range(3)], pa.list_(message)),
    "ability": ["math"] * 3,
    "reward_model": pa.array(
        [{"ground_truth": str(n + 2), "style": "rule"} for n in range(3)],
        pa.struct([("ground_truth", pa.string()), ("style", pa.string())]),
    ),
    "extra_info": pa.array(
        [{"index": 0, "split": "train", "hint": None}, {"index": 1, "split": "train", "hint": "\"add\""}, None],
        pa.struct([("index", pa.int64()), ("split", pa.string()), ("hint", pa.string())]),
    ),
}), compression="zstd", row_group_size=2)

# Every kind of value.
write("kinds", pa.table({
    "a.b": pa.array([True, None]),
    "whole": pa.array([-(2**63), 7], pa.int64()),
    "unsigned": pa.array([2**64 - 1, 0], pa.uint64()),
    "single": pa.array([0.1, float("nan")], pa.float32()),
    "double": pa.array([4.0, 1e300], pa.float64()),
    "money": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(10, 2)),
    "day": pa.array([datetime.date(2026, 1, 31), None]),
    "large": pa.array(["é\n", "\u2028\"\\"], pa.large_string()),
    "names": pa.array(["x", "y"]).dictionary_encode(),
    "lists": pa.array([[[1, None], []], None], pa.list_(pa.list_(pa.int32()))),
    "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int8())),
    "nothing": pa.nulls(2),
}))

# Images beside the prompts.
image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
write("images", pa.table({
    "prompt": ["1+1="],
    "answer": ["2"],
    "images": pa.array([[{"bytes": b"\x89PNG", "path": None}]], pa.list_(image)),
}))

rows = "".join(f'{{"prompt": "{n}+5=", "answer": "{n + 5}"}}\n' for n in range(3))
(HERE / "plain.jsonl.gz").write_bytes(gzip.compress(rows.encode(), mtime=0))
