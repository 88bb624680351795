"""Reads what vintage wrote with readers that are not vintage's: a run's archive as it is with
the examples of docs/readers.md (DuckDB, pyarrow, Polars, pandas, datasets), by hand with pyarrow
and Polars, and a message with pyarrow.

usage: readers.py RUN PAGE MESSAGE        prints what each found, one JSON object
"""

import collections
import json
import math
import pathlib
import shutil
import sys
import tempfile

import duckdb
import polars
import pyarrow
import pyarrow.dataset
import pyarrow.parquet

# Behind the columns of a trajectory: what Kafka knew of the record.
OF_THE_LOG = [
    "_kafka_partition", "_kafka_offset", "_kafka_timestamp", "_row_in_msg", "_key", "_headers",
    "_payload_crc32c", "_bad_reason", "_bad_payload", "_bad_payload_bytes", "_bad_payload_sha256",
]


def read_message(path):
    table = pyarrow.ipc.open_stream(path.read_bytes()).read_all()
    table.validate(full=True)
    return table


def check_schema(found, message):
    assert found.names == [*message.names, *OF_THE_LOG], found.names
    for field in message:
        assert found.field(field.name).type == field.type, field.name
        assert found.field(field.name).nullable, "a quarantined message has no trajectory"


def read_files(archive, message):
    """Every file of each partition of each incarnation, each beginning where the one before ended."""
    chains = collections.defaultdict(list)
    for path in sorted(archive.glob("v1/*/*/p=*/*.parquet")):
        file = pyarrow.parquet.ParquetFile(path)
        footer = json.loads(file.metadata.metadata[b"vintage.footer"])
        check_schema(file.schema_arrow, message)
        table = file.read()
        table.validate(full=True)
        offsets = table["_kafka_offset"].to_pylist()
        assert path.stem == f"{footer['base_offset']:020}", path
        assert path.parts[-4:-1] == (
            f"topic={footer['topic']}", f"incarnation={footer['incarnation']}",
            f"p={footer['partition']:05}"), path
        assert table.num_rows == footer["rows"] + footer["quarantined"], footer
        assert len(set(offsets)) == footer["messages"], footer
        assert footer["base_offset"] <= min(offsets) and max(offsets) < footer["next_offset"]
        assert set(table["_kafka_partition"].to_pylist()) == {footer["partition"]}, path
        chains[footer["incarnation"], footer["partition"]].append(footer)
    for chain in chains.values():
        assert chain[0]["base_offset"] == 0, chain
        for before, after in zip(chain, chain[1:]):
            assert before["next_offset"] == after["base_offset"], (before, after)
    footers = [footer for chain in chains.values() for footer in chain]
    return {
        "lives": sorted({life for life, _ in chains}),
        "files": len(footers),
        "messages": sum(footer["messages"] for footer in footers),
        "rows": sum(footer["rows"] for footer in footers),
    }


def with_pyarrow(archive):
    data = pyarrow.dataset.dataset(archive / "v1", format="parquet", ignore_prefixes=["_", "."])
    tokens, rewards = collections.Counter(), []
    for row in data.to_table(["policy_spans", "completion_tokens", "reward"]).to_pylist():
        [span] = row["policy_spans"]
        tokens[span["version"]] += len(row["completion_tokens"])
        rewards.append(row["reward"])
    return {"tokens": tokens, "reward": sum(rewards) / len(rewards)}


def with_polars(archive):
    data = polars.scan_parquet(archive / "v1/**/*.parquet").filter(
        polars.col("_bad_reason").is_null())
    version = polars.col("policy_spans").list.first().struct.field("version").alias("version")
    by_version = data.group_by(version).agg(
        polars.col("completion_tokens").list.len().sum().alias("tokens"))
    return {
        "tokens": dict(by_version.collect().iter_rows()),
        "reward": data.select(polars.col("reward").cast(polars.Float64).mean()).collect().item(),
    }


def with_duckdb(run, page):
    """The page's queries as they are, over this run and its first update."""
    sql = page.read_text("utf-8").split("```sql\n")[1].split("```")[0]
    sql = sql.replace("runs/a/", f"{run}/").replace("update = 99", "update = 0")
    by_version, used, by_age = [duckdb.sql(query) for query in sql.split(";") if query.strip()]
    assert by_version.columns == ["version", "rollouts", "reward", "tokens"], by_version.columns
    assert by_age.columns == ["staleness", "rollouts", "reward", "advantage"], by_age.columns
    return {
        "by_version": by_version.fetchall(),
        "used": used.fetchall(),
        "by_age": by_age.fetchall(),
    }


def example(run, page, reader):
    """What the page's example of a reader leaves behind."""
    code = page.read_text("utf-8").split(f"```python {reader}\n")[1].split("```")[0]
    names = {}
    exec(code.replace("runs/a/", f"{run}/"), names)
    return names


def examples(run, page):
    """Rollouts and mean reward by incarnation, as each reader gives them; `datasets` gives no such table."""
    arrow = example(run, page, "pyarrow")["by_life"].to_pydict()
    polars_rows = example(run, page, "polars")["by_life"].sort("incarnation").rows()
    sound = example(run, page, "datasets")["sound"]
    return {
        "pyarrow": sorted(zip(arrow["incarnation"], arrow["reward_count"], arrow["reward_mean"])),
        "polars": polars_rows,
        "pandas": list(example(run, page, "pandas")["by_life"].itertuples(name=None)),
        "datasets": [len(sound), sum(row["reward"] for row in sound) / len(sound)],
    }


def with_bad_rewards(run, page):
    """The page's examples over the same run, two of whose rewards are NaN and infinite."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "run"
        shutil.copytree(run / "archive", copy / "archive")
        shutil.copytree(run / "plans", copy / "plans")
        shutil.copy(run / "uses.parquet", copy)
        path = min((copy / "archive").glob("v1/*/*/p=*/*.parquet"))
        table = pyarrow.parquet.read_table(path, partitioning=None)
        at = table.schema.get_field_index("reward")
        rewards = [math.nan, math.inf] + table["reward"].to_pylist()[2:]
        table = table.set_column(at, "reward", pyarrow.array(rewards, pyarrow.float32()))
        pyarrow.parquet.write_table(table, path)
        by_version = with_duckdb(copy, page)["by_version"]
        assert all(math.isfinite(row[2]) for row in by_version), by_version
        found = examples(copy, page)
        assert all(math.isfinite(row[2]) for name in ("pyarrow", "polars", "pandas")
                   for row in found[name]), found
        assert math.isfinite(found["datasets"][1]), found
        return found["datasets"][0]


def main():
    run, page, path = map(pathlib.Path, sys.argv[1:])
    archive, message = run / "archive", read_message(path)
    print(json.dumps({
        "message": {"rows": message.num_rows, "sample": message["completion_text"][0].as_py()},
        "files": read_files(archive, message.schema),
        "pyarrow": with_pyarrow(archive),
        "polars": with_polars(archive),
        "duckdb": with_duckdb(run, page),
        "examples": examples(run, page),
        "left_of_bad_rewards": with_bad_rewards(run, page),
    }, default=str))


main()
