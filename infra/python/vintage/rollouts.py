"""Archived rollouts as datasets: by index, as a stream that can be resumed, and of Hugging Face."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ._native import UsageError
from .reading import read

#: Columns that an item is made of.
_NEEDED = (
    "group_id",
    "sample_index",
    "prompt_id",
    "prompt_tokens",
    "completion_tokens",
    "behavior_logprobs",
    "loss_mask",
    "policy_spans",
    "reward",
)


class Rollouts:
    """Archived rollouts by index: a map-style dataset.

    ``source``, ``where`` and ``topic`` are those of :func:`read`. What they select is written into a
    temporary file, which this process and its workers map into memory; the file goes when the dataset
    does. ``columns`` names further columns of :func:`read` that items have.

    Ranks share by group: of ``world_size`` ranks, each has as many groups; what is left over, fewer
    than ranks, is left out. An epoch's order follows from ``seed``, epoch and the ids of the groups
    alone; ``shuffle=False`` is the order of the log. The rollouts of a group follow one another.

    An item is a dictionary of one rollout of ``L`` tokens, prompt and completion:

    =================  ===========  ============================================================
    ``input_ids``      int64 [L]    ids
    ``loss_mask``      bool [L]     true for tokens that the policy sampled
    ``logprobs``       float32 [L]  log-prob under the policy that sampled it, in nats; else 0
    ``versions``       int64 [L]    version that sampled it; else -1
    ``reward``         float        reward
    ``group``          str          id of its group, in hexadecimal digits
    ``sample``         int          index within its group
    ``prompt_id``      str          id of its prompt
    =================  ===========  ============================================================

    Raises :class:`UsageError` as :func:`read` does, and for a selection without a group for each rank.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        where: Mapping[str, Any] | None = None,
        columns: Sequence[str] = (),
        topic: str | None = None,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise UsageError(f"rank={rank}: ranks are from 0 to world_size - 1, {world_size - 1}")
        self._more = tuple(columns)
        self._seed, self._shuffle = int(seed), bool(shuffle)
        self._rank, self._world_size = int(rank), int(world_size)
        self._epoch = 0
        wanted = list(dict.fromkeys((*_NEEDED, *self._more)))
        self._path = _written(read(source, columns=wanted, where=where, topic=topic))
        weakref.finalize(self, _removed, self._path, os.getpid())
        self._open()
        self._count = len(self._ids)
        self._share()

    def __len__(self) -> int:
        """Number of rollouts of this rank."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The rollout at a place of this epoch's order."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{index}: there are {len(self)} rollouts")
        index = int(index) % len(self)
        place = int(np.searchsorted(self._ends, index, side="right"))
        group = int(self._order[place])
        first = int(self._ends[place - 1]) if place else 0
        return self._item(group, int(self._starts[group]) + index - first)

    @property
    def groups(self) -> list[str]:
        """Ids of this rank's groups, in this epoch's order."""
        return [self._ids[group].hex() for group in self._order]

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch; the first is 0."""
        self._epoch = int(epoch)
        self._share()

    def state_dict(self) -> dict[str, Any]:
        """What the order follows from, as JSON can hold it."""
        return {
            "epoch": self._epoch,
            "seed": self._seed,
            "shuffle": self._shuffle,
            "rank": self._rank,
            "world_size": self._world_size,
            "groups": self._count,
            "digest": self._digest(self._count),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the order of a state. Groups that the archive has got since are left out.

        Raises :class:`UsageError` if the state is of other groups, seed or ranks.
        """
        mine = self.state_dict()
        for name in ("seed", "shuffle", "rank", "world_size"):
            if state[name] != mine[name]:
                raise UsageError(
                    f"the state is of {name}={state[name]!r}, and this dataset has {mine[name]!r}"
                )
        count = int(state["groups"])
        if count > len(self._ids) or self._digest(count) != state["digest"]:
            raise UsageError(
                "the state is of other groups than this source and filter select: give those it "
                "was made with"
            )
        self._count = count
        self.set_epoch(state["epoch"])

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in ("_table", "_ids", "_starts", "_rows"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        """Maps the file; a worker does so for itself."""
        with pa.memory_map(self._path) as file, pa.ipc.open_stream(file) as stream:
            self._table = stream.read_all()
        column = self._table["group_id"]
        ids = [value.as_py() for chunk in column.chunks for value in chunk]
        starts = [row for row in range(len(ids)) if row == 0 or ids[row] != ids[row - 1]]
        self._ids = [ids[row] for row in starts]
        self._starts = np.array([*starts, len(ids)], dtype=np.int64)
        lengths = [chunk.num_rows for chunk in self._table.to_batches()]
        self._rows = np.cumsum([0, *lengths])

    def _share(self) -> None:
        """Orders the groups of the epoch and takes this rank's."""
        order = np.arange(self._count)
        if self._shuffle:
            salt = f"{self._seed} {self._epoch} ".encode()
            keys = [hashlib.sha256(salt + self._ids[group]).digest() for group in order]
            order = np.array(sorted(order, key=lambda group: keys[group]), dtype=np.int64)
        each = self._count // self._world_size
        if not each:
            raise UsageError(
                f"the source and filter select {self._count} groups, and {self._world_size} ranks "
                "need one each"
            )
        self._order = order[: each * self._world_size][self._rank :: self._world_size]
        sizes = self._starts[self._order + 1] - self._starts[self._order]
        self._ends = np.cumsum(sizes)

    def _digest(self, count: int) -> str:
        digest = hashlib.sha256()
        for group in self._ids[:count]:
            digest.update(group)
        return digest.hexdigest()

    def _item(self, group: int, row: int) -> dict[str, Any]:
        batch = int(np.searchsorted(self._rows, row, side="right")) - 1
        at = row - int(self._rows[batch])

        def cell(name: str) -> Any:
            return self._table[name].chunk(batch)[at]

        prompt = cell("prompt_tokens").values.to_numpy()
        completion = cell("completion_tokens").values.to_numpy()
        first, length = len(prompt), len(prompt) + len(completion)
        sampled = np.zeros(length, dtype=bool)
        mask = cell("loss_mask")
        sampled[first:] = True if not mask.is_valid else mask.values.to_numpy(zero_copy_only=False)
        logprobs = np.zeros(length, dtype=np.float32)
        logprobs[first:] = cell("behavior_logprobs").values.to_numpy()
        versions = np.full(length, -1, dtype=np.int64)
        for span in cell("policy_spans").as_py():
            versions[first + span["start"] :] = span["version"]
        versions[~sampled] = -1
        item = {
            "input_ids": np.concatenate([prompt, completion]).astype(np.int64),
            "loss_mask": sampled,
            "logprobs": np.where(sampled, logprobs, np.float32(0)),
            "versions": versions,
            "reward": cell("reward").as_py(),
            "group": self._ids[group].hex(),
            "sample": cell("sample_index").as_py(),
            "prompt_id": cell("prompt_id").as_py(),
        }
        item.update({name: cell(name).as_py() for name in self._more})
        return item


class RolloutStream:
    """The rollouts of a :class:`Rollouts` one after the other, which goes on where it was.

    Takes its arguments. Iterating gives the items of the epoch that :meth:`set_epoch` chose; workers
    of a ``DataLoader`` share them by group. :meth:`state_dict` says how far the newest iteration came,
    and :meth:`load_state_dict` has the next one begin there: torchdata's ``StatefulDataLoader`` calls
    both. For a ``DataLoader``, take :class:`vintage.torch.RolloutStream`, which is this class and
    PyTorch's ``IterableDataset``.
    """

    def __init__(self, source: str | os.PathLike[str], **settings: Any) -> None:
        self.rollouts = Rollouts(source, **settings)
        self._position = 0
        self._resume: Mapping[str, Any] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rollouts = self.rollouts
        worker, workers = _worker()
        first = 0
        if self._resume is not None:
            saved = tuple(self._resume["worker"])
            if saved != (worker, workers):
                raise UsageError(
                    f"the state is of worker {saved[0]} of {saved[1]}, and this is worker {worker} of "
                    f"{workers}: resume with as many workers"
                )
            first, self._resume = int(self._resume["position"]), None
        self._position = first
        ends = rollouts._ends
        begins = ends - np.diff(ends, prepend=0)
        places = np.concatenate(
            [np.arange(begins[k], ends[k]) for k in range(worker, len(ends), workers)]
            or [ends[:0]]
        )
        for place in places[first:]:
            item = rollouts[int(place)]
            self._position += 1
            yield item

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch; the first is 0."""
        self.rollouts.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Order and position, as JSON can hold them."""
        if self._resume is not None:
            return dict(self._resume)
        order = self.rollouts.state_dict()
        return {**order, "position": self._position, "worker": list(_worker())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Has the next iteration go on where a state was; see :meth:`Rollouts.load_state_dict`."""
        self.rollouts.load_state_dict(state)
        self._resume = dict(state)


def collate(items: Sequence[Mapping[str, Any]], *, pad_id: int = 0) -> dict[str, Any]:
    """Rollouts as rectangles ``[R, L]``, padded on the right: ``input_ids``, ``attention_mask``,
    ``loss_mask``, ``logprobs``, ``versions``; ``rewards`` is float32 ``[R]``; ``group``, ``sample``,
    ``prompt_id`` and further columns are lists."""
    lengths = [len(item["input_ids"]) for item in items]
    shape = (len(items), max(lengths, default=0))
    fills = {"input_ids": pad_id, "loss_mask": False, "logprobs": 0.0, "versions": -1}
    wide: dict[str, Any] = {}
    for name, fill in fills.items():
        dtype = items[0][name].dtype if items else np.int64
        wide[name] = np.full(shape, fill, dtype=dtype)
        for row, item in enumerate(items):
            wide[name][row, : lengths[row]] = item[name]
    wide["attention_mask"] = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
    wide["rewards"] = np.array([item["reward"] for item in items], dtype=np.float32)
    names = [name for name in (items[0] if items else ()) if name not in {*fills, "reward"}]
    wide.update({name: [item[name] for item in items] for name in names})
    return wide


def to_dataset(
    source: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
    topic: str | None = None,
) -> Any:
    """Archived rollouts as a ``datasets.Dataset`` of Hugging Face, held in memory.

    The arguments are those of :func:`read`, and so are the columns; ids are hexadecimal digits, and
    maps lists of key and value. Needs ``pip install 'vintage[datasets]'``.
    """
    try:
        import datasets
        from datasets.table import InMemoryTable
    except ImportError:
        raise UsageError(
            "to_dataset needs Hugging Face's datasets: pip install 'vintage[datasets]'"
        ) from None
    batches = list(read(source, columns=columns, where=where, topic=topic))
    if not batches:
        raise UsageError(f"{os.fspath(source)} has no rollout that the filter takes")
    table = pa.Table.from_batches(batches)
    plain = {name: _plain(table[name]) for name in table.column_names}
    return datasets.Dataset(InMemoryTable(pa.table(plain)))


def _plain(column: pa.ChunkedArray[Any]) -> Any:
    """A column in types that every reader knows."""
    kind = column.type
    if pa.types.is_fixed_size_binary(kind):
        return pa.array([None if value is None else value.hex() for value in column.to_pylist()])
    if pa.types.is_map(kind):
        entry = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        rows = [
            None if row is None else [{"key": key, "value": value} for key, value in row]
            for row in column.to_pylist()
        ]
        return pa.array(rows, type=pa.list_(entry))
    return column


def _written(batches: Iterator[pa.RecordBatch]) -> str:
    """Writes batches into a temporary file, and returns its path."""
    handle, path = tempfile.mkstemp(prefix="vintage-rollouts-", suffix=".arrow")
    try:
        with os.fdopen(handle, "wb") as file:
            writer = None
            for batch in batches:
                if writer is None:
                    writer = pa.ipc.new_stream(file, batch.schema)
                writer.write_batch(batch)
            if writer is None:
                raise UsageError("the source has no rollout that the filter takes")
            writer.close()
    except BaseException:
        os.unlink(path)
        raise
    return path


def _removed(path: str, process: int) -> None:
    if os.getpid() == process:
        os.unlink(path)


def _worker() -> tuple[int, int]:
    """Number of this worker of a DataLoader, and of all; PyTorch is not imported for it."""
    data = sys.modules.get("torch.utils.data")
    info = None if data is None else data.get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
