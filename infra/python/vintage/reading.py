"""Archived rollouts, and which update used which, as Arrow."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from . import _native
from ._native import UsageError

_FILTERS = ("version", "time", "reward", "prompt", "sample")


def read(
    source: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
    rows: int = 4096,
    topic: str | None = None,
    live: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Reads the whole groups of an archive or of a log, one row for each rollout.

    ``source`` is the folder of a run, the folder of an archive, or a bucket (``s3://…``). ``topic``
    chooses one if there are several. Every file's checksums are compared; an archive may be written
    meanwhile, and what it held at the beginning is read.

    With ``live``, ``source`` is a run's folder, and what its log held at the beginning and its archive
    does not is read behind the archive. ``kafka://HOST:PORT/TOPIC`` is a log alone. Filters are for
    archives: neither takes ``where``.

    ``columns`` are names of the trajectory's columns, and of the place in the log: ``incarnation``,
    ``partition``, ``offset``, ``timestamp``, ``producer``, ``producer_seq``. All, if not given.

    ``where`` takes groups that meet every filter. Ranges are ``(from, to)``, both ends among them,
    either may be None; one value is a range of one:

    * ``version``: versions from the oldest token's to the newest's meet the range;
    * ``time``: when it was published: datetimes with a time zone, or milliseconds since the epoch;
    * ``reward``: mean reward of the group;
    * ``prompt``: a pattern of the prompt's id (``*`` any text, ``?`` any character), or a list;
    * ``sample``: a share from 0 to 1, or ``(share, seed)``: the same groups every time.

    Yields record batches of at least ``rows`` rows, whole groups in each. Raises
    :class:`vintage.UsageError` for what is not there and for unknown columns and filters,
    :class:`vintage.Error` for files whose bytes are not those written.
    """
    where = dict(where or {})
    if where and (live or os.fspath(source).startswith("kafka://")):
        raise UsageError("where is for archives: read a log whole, and filter its batches")
    for name in where:
        if name not in _FILTERS:
            raise UsageError(f"there is no filter {name!r}: there are {', '.join(_FILTERS)}")
    prompts = where.get("prompt") or []
    sample = where.get("sample")
    if sample is not None:
        share, seed = sample if isinstance(sample, (tuple, list)) else (sample, 0)
        if not 0 <= share <= 1:
            raise UsageError(f"sample of {share}: a share is a number from 0 to 1")
        sample = (float(share), int(seed))
    reader = _native.Reader(
        os.fspath(source),
        live=live,
        topic=topic,
        columns=None if columns is None else list(columns),
        versions=_range(where.get("version"), "version", int, 0, 2**64 - 1),
        times_ms=_range(where.get("time"), "time", _milliseconds, -(2**63), 2**63 - 1),
        rewards=_range(where.get("reward"), "reward", float, float("-inf"), float("inf")),
        prompts=[prompts] if isinstance(prompts, str) else list(prompts),
        sample=sample,
    )
    return _batches(reader, rows)


def _batches(reader: Any, rows: int) -> Iterator[pa.RecordBatch]:
    while (stream := reader.next(rows)) is not None:
        yield from _opened(stream)


def _opened(stream: Any) -> Iterator[pa.RecordBatch]:
    with pa.ipc.open_stream(pa.py_buffer(stream)) as opened:
        yield from opened


def uses(run: str | os.PathLike[str], *, learner: str | None = None) -> pa.Table:
    """Which rollout each update of a learner trained: one row for each use.

    Columns: ``update``, ``first_trained`` (the update that trained it first), ``group``,
    ``incarnation``, ``partition``, ``offset``, ``producer``, ``producer_seq``, ``sample_index``,
    ``prompt_id``, ``oldest_version``, ``newest_version``, ``staleness`` (of its oldest token, in
    updates), ``tokens``, ``reward``, ``advantage``, and
    ``update_masked_share``: the share of the whole update's tokens that the rule masked; null while
    the update has no result. ``learner`` is the lead if not given. Groups of a blended archive are
    left out.
    """
    stream = _native.uses(os.fspath(run), learner=learner)
    return pa.Table.from_batches(list(_opened(stream)))


def _range(given: Any, name: str, convert: Any, least: Any, most: Any) -> Any:
    if given is None:
        return None
    if isinstance(given, (tuple, list)):
        if len(given) != 2:
            raise UsageError(f"{name}={given!r}: a range is (from, to)")
        first, last = given
    else:
        first = last = given
    ends = (
        least if first is None else convert(first),
        most if last is None else convert(last),
    )
    if not ends[0] <= ends[1]:
        raise UsageError(f"{name}={given!r}: nothing is in that range")
    return ends


def _milliseconds(moment: Any) -> int:
    if isinstance(moment, datetime.datetime):
        if moment.tzinfo is None:
            raise UsageError(f"time {moment}: give it a time zone, such as datetime.timezone.utc")
        return round(moment.timestamp() * 1000)
    return int(moment)
