"""Writer of a run: slots of the lead go out, the groups that a program samples come back."""

from __future__ import annotations

import json
import os
import threading
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from . import _native
from ._native import Error, UsageError
from .learner import _written


@dataclass(frozen=True)
class Slot:
    """One prompt that the lead asks this writer to sample: one group.

    ``prompt`` is the text to complete, a chat already rendered by the model's template;
    ``messages`` is the chat it was rendered from, or None. ``prompt_tokens`` are its ids by the run's
    tokenizer, and the ones to sample from. ``answer`` is the reference answer, or None; ``metadata``
    what else the prompt's row has. ``seeds`` has one seed for each completion of the group: the same
    seeds come again if the slot is granted again.

    ``version`` is the newest version of the policy, which should sample; with ``exact``, no other may.
    ``temperature``, ``top_p``, ``top_k`` (0 is off) and ``max_tokens`` are the run's, and recorded with
    every rollout.
    """

    group: str
    prompt_id: str
    prompt: str
    messages: list[dict[str, Any]] | None
    prompt_tokens: list[int]
    answer: str | None
    metadata: dict[str, str]
    seeds: list[int]
    version: int
    exact: bool
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int

    @property
    def samples(self) -> int:
        """Number of completions of the group."""
        return len(self.seeds)


class Place(NamedTuple):
    """Place of a group in the log, and its number among those of its writer."""

    partition: int
    offset: int
    number: int


class Writer:
    """Produces rollouts for a run, and samples them in this program.

    ``run`` is the run's folder; its learner is another process, or will be: opening waits for it.
    ``settings`` (``{"broker": "localhost:9092"}``) and ``config`` (a TOML file) are those of
    ``vintage rollout``, and so is ``accept``: names of settings in which this writer may differ from
    its run. ``name`` begins the producer's id and is recorded with every rollout.

    The writer is a producer like any other: it asks the lead for slots and gets its share of them,
    within the bound on staleness; its groups are numbered, and what the log acknowledged is noted in
    its journal. Iterating gives one :class:`Slot` after the other, until the learner has finished.
    Several may be open at once, ``rollout.concurrent_groups`` of the settings at most.

    Rewards come with every :meth:`write`; with ``score=True``, groups written without are scored by
    the run's own reward.

    Methods may be called from several threads. Leaving the ``with`` block, :meth:`close` and the end
    of the program publish what was written and give other slots back to the lead. The embedded broker
    is of one process alone: this needs one that others reach.

    Raises :class:`UsageError` for settings that fit nothing or are not the run's.
    """

    def __init__(
        self,
        run: str | os.PathLike[str],
        *,
        name: str = "python",
        config: str | os.PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        accept: Sequence[str] = (),
        score: bool = False,
    ) -> None:
        self._native = native = _native.Writer(
            os.fspath(run),
            name=name,
            config=config,
            settings=[f"{key}={_written(value)}" for key, value in (settings or {}).items()],
            accept=list(accept),
            scores=score,
        )
        self._waiting = waiting = _Waiting()
        self._thread = thread = threading.Thread(
            target=_listen, args=(native, waiting), name="vintage-writer", daemon=True
        )
        thread.start()
        # Called at the end of the program too.
        self._drain = weakref.finalize(self, _drain, native, thread, os.getpid())
        native.join()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Slot]:
        while True:
            slot = self.take()
            if slot is None:
                return
            yield slot

    def take(self, timeout: float | None = None) -> Slot | None:
        """Next slot; waits until the lead grants one. None after the last.

        Raises :class:`TimeoutError` if there is none within ``timeout`` seconds.
        """
        taken = self._native.take(timeout)
        if taken is None:
            return None
        if taken is False:
            raise TimeoutError(f"the lead granted no slot within {timeout} s")
        return _slot(taken)

    def batches(self, size: int) -> Iterator[list[Slot]]:
        """Lists of the slots that are at hand, one at least and ``size`` at most, for programs that
        sample many prompts in one call."""
        if size < 1:
            raise UsageError(f"size={size}: a batch has one slot or more")
        for slot in self:
            batch = [slot]
            while len(batch) < size:
                taken = self._native.take(0.0)
                if not taken:
                    break
                batch.append(_slot(taken))
            yield batch

    def write(self, slot: Slot, completions: Any, logprobs: Any, **more: Any) -> Place | None:
        """Publishes the group of a slot, and waits for the log: :meth:`submit`, and its result."""
        return self.submit(slot, completions, logprobs, **more).result()

    def submit(
        self,
        slot: Slot,
        completions: Any,
        logprobs: Any,
        *,
        rewards: Any = None,
        versions: Any = None,
        texts: Sequence[str] | None = None,
        finish_reasons: Sequence[str] | None = None,
        loss_masks: Any = None,
        reward_parts: Sequence[Mapping[str, float]] | None = None,
        seconds: float = 0.0,
    ) -> Future[Place | None]:
        """Hands the group of a slot over, and returns a future of its :class:`Place` in the log.

        There is one row for each of ``slot.seeds``: lists, NumPy arrays or tensors.

        * ``completions``: ids of each completion, the stop token included; whole numbers;
        * ``logprobs``: their log-probs under the policy that sampled them, in nats, over the whole
          vocabulary at the run's temperature;
        * ``rewards``: one number a row;
        * ``versions``: versions that sampled: one number, one a row, or one for each token, which
          never descend; ``slot.version`` if not given;
        * ``texts``: decoded by the run's tokenizer if not given;
        * ``finish_reasons``: "stop" or "length"; by the last token if not given;
        * ``loss_masks``: for conversations: true for tokens that the model sampled, false for those
          that something else said, whose log-probs are not read;
        * ``reward_parts``: named components of each reward, for reports;
        * ``seconds``: how long the group was sampled.

        The future gives None if the group is no longer wanted: the learner has finished. It raises
        :class:`Error` if the group got no reward, or the producer failed. In asyncio, await
        ``asyncio.wrap_future(writer.submit(…))``.

        Raises :class:`UsageError` with field, row and token for a value that does not fit; the slot
        stays open, and nothing is published.
        """
        rows = len(slot.seeds)
        each = _each_row(versions, rows)
        columns = {
            "tokens": _arrays("completions", completions, rows, "iu", np.int64),
            "logprobs": _arrays("logprobs", logprobs, rows, "f", np.float32),
            "version": [value if isinstance(value, int) else None for value in each],
            "versions": [
                None
                if value is None or isinstance(value, int)
                else _array(f"versions[{row}]", value, "iu", np.int64)
                for row, value in enumerate(each)
            ],
            "reward": [None] * rows if rewards is None else _numbers("rewards", rewards, rows),
            "parts": _listed("reward_parts", reward_parts, rows),
            "text": _listed("texts", texts, rows),
            "finish_reason": _listed("finish_reasons", finish_reasons, rows),
            "mask": [None] * rows
            if loss_masks is None
            else _arrays("loss_masks", loss_masks, rows, "b", np.uint8),
            "seconds": [float(seconds) / max(rows, 1)] * rows,
        }
        given = [dict(zip(columns, values)) for values in zip(*columns.values())]
        future = self._waiting.add(slot.group)
        try:
            wanted = self._native.answer(slot.group, given)
        except BaseException:
            self._waiting.drop(slot.group, future)
            raise
        if not wanted:
            self._waiting.settle(slot.group, None)
            self._native.check()
        return future

    def give_up(self, slot: Slot, reason: str) -> None:
        """Gives a slot up that cannot be sampled; the lead grants another, and counts this one as
        failed. Eight in a row, without a group between them, end the writer."""
        self._native.give_up(slot.group, reason)

    def flush(self) -> None:
        """Waits until everything that was submitted is acknowledged; raises the first error."""
        for future in self._waiting.all():
            future.result()

    def weights(self, version: int) -> str:
        """Folder of a version's model in the layout of Hugging Face, from the run's store, verified.

        It is in the run's folder; the three newest that were asked for are kept.
        """
        return self._native.weights(int(version))

    @property
    def summary(self) -> dict[str, Any] | None:
        """What the writer published, once it has ended: producer, groups, rollouts, tokens, failed."""
        return self._native.summary()

    def close(self) -> None:
        """Publishes what was written, gives other slots back, and ends. Raises the error that ended
        the writer before, if one did."""
        self._native.stop()
        self._native.wait()
        self._thread.join()
        self._drain.detach()
        self._native.check()


class _Waiting:
    """Futures of the groups that were submitted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: dict[str, Future[Place | None]] = {}

    def add(self, group: str) -> Future[Place | None]:
        future: Future[Place | None] = Future()
        future.set_running_or_notify_cancel()  # what is handed over cannot be taken back
        with self._lock:
            self._futures.setdefault(group, future)  # a slot written twice is refused
        return future

    def drop(self, group: str, future: Future[Place | None]) -> None:
        with self._lock:
            if self._futures.get(group) is future:
                del self._futures[group]

    def all(self) -> list[Future[Place | None]]:
        with self._lock:
            return list(self._futures.values())

    def settle(self, group: str, outcome: Place | Exception | None) -> None:
        with self._lock:
            future = self._futures.pop(group, None)
        if future is None:
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def end(self, error: Exception | None) -> None:
        with self._lock:
            groups = list(self._futures)
        for group in groups:
            self.settle(group, error)


def _listen(native: Any, waiting: _Waiting) -> None:
    while (news := native.news()) is not None:
        if "warning" in news:
            warnings.warn(news["warning"], stacklevel=1)
        elif "failed" in news:
            waiting.settle(news["group"], Error(f"no reward for the group: {news['failed']}"))
        else:
            waiting.settle(news["group"], Place(*news["place"]))
    try:
        native.check()
    except Error as error:
        waiting.end(error)
    else:
        waiting.end(None)


def _drain(native: Any, thread: threading.Thread, process: int) -> None:
    if os.getpid() != process:  # a forked process has no threads of its own to wait for
        return
    native.stop()
    if threading.current_thread() is not thread:  # it collects garbage too
        native.wait()
        thread.join()


def _slot(taken: dict[str, Any]) -> Slot:
    chat = taken.pop("chat")
    messages = None if chat is None else json.loads(chat)
    if isinstance(messages, dict):
        messages = messages["messages"]
    return Slot(messages=messages, **taken)


def _host(value: Any) -> Any:
    """A NumPy array of a tensor; anything else as it is."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()  # exact; NumPy has no bfloat16
        return value.numpy()
    return value


_KINDS = {"iu": "whole numbers", "f": "floating-point numbers", "b": "true and false"}


def _array(field: str, value: Any, kinds: str, dtype: Any) -> np.ndarray[Any, Any]:
    given = _host(value)
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{field} is no array: {error}") from None
    if array.ndim != 1:
        raise UsageError(f"{field} has shape {list(array.shape)}, and one dimension is needed")
    listed = not hasattr(given, "dtype") and array.dtype.kind in "iu"  # [0, -1] is meant as floats
    if array.size and array.dtype.kind not in kinds and not (kinds == "f" and listed):
        raise UsageError(f"{field} has dtype {array.dtype}, and {_KINDS[kinds]} are needed")
    if kinds == "iu" and array.dtype == np.uint64 and array.size and array.max() > 2**62:
        raise UsageError(f"{field} has {array.max()}, which is no id or version")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=dtype)


def _rows(field: str, values: Any, rows: int) -> Sequence[Any]:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise UsageError(f"{field} is {type(values).__name__}, and one row a completion is needed")
    if len(values) != rows:
        raise UsageError(f"{field} has {len(values)} rows, and the slot asks for {rows} completions")
    return values


def _arrays(field: str, values: Any, rows: int, kinds: str, dtype: Any) -> list[Any]:
    given = _rows(field, values, rows)
    return [_array(f"{field}[{row}]", given[row], kinds, dtype) for row in range(rows)]


def _numbers(field: str, values: Any, rows: int) -> list[float]:
    given = _rows(field, values, rows)
    array = _array(field, given, "f", np.float32)
    return [float(value) for value in array]


def _listed(field: str, values: Any, rows: int) -> list[Any]:
    return [None] * rows if values is None else list(_rows(field, values, rows))


def _each_row(versions: Any, rows: int) -> list[Any]:
    """Version of each row: a whole number, or one for each token."""
    if versions is None:
        return [None] * rows
    if not hasattr(versions, "__len__") or getattr(versions, "ndim", None) == 0:
        return [_version("versions", versions)] * rows
    given = _rows("versions", versions, rows)
    one = not any(hasattr(value, "__len__") and np.ndim(_host(value)) for value in given)
    return [_version(f"versions[{row}]", given[row]) if one else given[row] for row in range(rows)]


def _version(field: str, value: Any) -> int:
    number = _host(value)
    array = np.asarray(number)
    if array.ndim or array.dtype.kind not in "iu":
        raise UsageError(f"{field} is {value!r}, and a version is a whole number")
    if array < 0:
        raise UsageError(f"{field} is {int(array)}: versions count from 0")
    return int(array)
