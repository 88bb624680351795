"""Processes that train one run together: what they tell each other.

Rank 0 alone opens the run. The others hear from it: an answer or an exception, so that no rank goes on
where another has failed.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np

from ._native import Error, UsageError

T = TypeVar("T")

#: Time that ranks wait for each other, as gloo's own default; for rank 0, which waits for rollouts
#: and for the store, they wait without a limit.
_PATIENCE = timedelta(minutes=30)
_FOREVER = timedelta(days=3650)
#: Interval at which a wait looks whether ^C was pressed.
_TICK = timedelta(milliseconds=50)


class Answer:
    """What rank 0 found."""

    value: Any = None


class Alone:
    """The only process of a learner."""

    rank = 0
    size = 1

    @contextmanager
    def first(self) -> Iterator[Answer]:
        """Answer that rank 0 gives inside, on all ranks afterwards; or the exception that it raises."""
        yield Answer()

    def together(self, what: str, work: Callable[[], T]) -> list[T]:
        """What ``work`` returns on each rank. If it raises on one, it does on all; so it does if the
        ranks are not all at ``what``."""
        return [work()]

    def spread(self, values: Any, count: int, device: Any) -> Any:
        """``count`` float32 values of rank 0, on all ranks."""
        return values

    def gather(self, values: Any, counts: Sequence[int]) -> list[Any]:
        """Values of each rank, ``[counts[rank]]``, on all ranks."""
        return [values]

    def close(self) -> None:
        """Leaves the others, who are told so if they wait for this rank."""


def ranks_of(torch: Any, group: Any) -> Alone:
    """Ranks of a group of ``torch.distributed``; of its default group, if that is initialised."""
    if torch is None or not torch.distributed.is_available():
        return Alone()
    if group is None and not torch.distributed.is_initialized():
        return Alone()
    if torch.distributed.get_world_size(group) == 1:
        return Alone()
    if torch.distributed.get_rank(group) < 0:
        raise UsageError("this process is no rank of the process_group that was given")
    return Ranks(torch, group)


class Ranks(Alone):
    """Several ranks. Every rank must make the same calls in the same order.

    Bytes and values on the CPU go through a gloo group of their own, whatever the group's backend is,
    and what is on another device through the group.
    """

    def __init__(self, torch: Any, group: Any) -> None:
        self._torch, self._dist = torch, torch.distributed
        self._group = group or self._dist.group.WORLD
        members = self._dist.get_process_group_ranks(self._group)
        self.rank, self.size = self._dist.get_rank(self._group), len(members)
        self._source = members[0]
        is_whole = self.size == self._dist.get_world_size()
        self._host = self._dist.new_group(
            members, backend="gloo", use_local_synchronization=not is_whole
        )
        # Ranks that do not come are noticed within gloo's default; from here on, waits are ours.
        lengthen = getattr(self._dist, "set_timeout", None)
        lengthen = lengthen or self._dist.distributed_c10d._set_pg_timeout
        lengthen(_FOREVER, self._host)

    @contextmanager
    def first(self) -> Iterator[Answer]:
        answer = Answer()
        if self.rank > 0:
            yield answer
            answer.value, theirs = self._receive()
            if theirs is not None:
                raise _noted(theirs, 0)
            return
        error = None
        try:
            yield answer
        except Exception as found:
            error = found
        except BaseException:  # ^C: the others hear that this rank has gone
            self.close()
            raise
        with _preferred(error):
            self._send((answer.value, _portable(error)))

    def together(self, what: str, work: Callable[[], T]) -> list[T]:
        value, error = self._tried(work)
        with _preferred(error):
            said = self._exchange((what, value, _portable(error)))
        for rank, (_, _, theirs) in enumerate(said):
            if theirs is not None:
                raise _noted(theirs, rank)
        for rank, (where, _, _) in enumerate(said):
            if where != said[0][0]:
                raise UsageError(
                    f"rank {rank} is at {where}, and rank 0 at {said[0][0]}: every rank makes the "
                    "same calls in the same order"
                )
        return [value for _, value, _ in said]

    def spread(self, values: Any, count: int, device: Any) -> Any:
        torch = self._torch
        through_host = self._is_through_host(device)
        place = "cpu" if through_host else device
        if self.rank == 0:
            sent = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(place)
        else:
            sent = torch.empty(count, dtype=torch.float32, device=place)
        if through_host:
            self._broadcast(sent)
        else:
            self._dist.broadcast(sent, self._source, group=self._group)
        return sent

    def gather(self, values: Any, counts: Sequence[int]) -> list[Any]:
        if isinstance(values, np.ndarray):
            parts = self.gather(self._torch.from_numpy(np.ascontiguousarray(values)), counts)
            return [part.numpy() for part in parts]
        device = values.device
        through_host = self._is_through_host(device)
        sent = values.new_zeros(max(counts), device="cpu" if through_host else device)
        sent[: len(values)] = values.detach()
        heard = [self._torch.empty_like(sent) for _ in counts]
        if through_host:
            self._all_gather(heard, sent)
        else:
            self._dist.all_gather(heard, sent, group=self._group)
        return [part[:count].to(device) for part, count in zip(heard, counts)]

    def close(self) -> None:
        host, self._host = self._host, None
        if host is not None and self._dist.is_initialized():
            self._dist.destroy_process_group(host)

    def _is_through_host(self, device: Any) -> bool:
        kind = str(self._torch.device(device).type)
        return kind == "cpu" or str(self._dist.get_backend(self._group)) == "gloo"

    def _exchange(self, said: Any) -> list[Any]:
        torch = self._torch
        data = pickle.dumps(said)
        sizes = [self._count(0) for _ in range(self.size)]
        self._all_gather(sizes, self._count(len(data)))
        room = int(max(sizes))
        sent = torch.frombuffer(bytearray(data.ljust(room, b"\0")), dtype=torch.uint8)
        heard = [torch.empty_like(sent) for _ in range(self.size)]
        self._all_gather(heard, sent)
        return [pickle.loads(part.numpy().tobytes()) for part in heard]

    def _send(self, said: Any) -> None:
        torch = self._torch
        data = bytearray(pickle.dumps(said))
        self._broadcast(self._count(len(data)))
        self._broadcast(torch.frombuffer(data, dtype=torch.uint8))

    def _receive(self) -> Any:
        torch = self._torch
        size = self._count(0)
        self._broadcast(size)
        data = torch.empty(int(size), dtype=torch.uint8, device="cpu")
        self._broadcast(data)
        return pickle.loads(data.numpy())

    def _count(self, value: int) -> Any:
        # On the CPU, whatever the program's default device is.
        return self._torch.tensor([value], dtype=self._torch.int64, device="cpu")

    def _broadcast(self, tensor: Any) -> None:
        self._run(
            lambda: self._dist.broadcast(tensor, self._source, group=self._host, async_op=True),
            _FOREVER,
        )

    def _all_gather(self, heard: Any, sent: Any) -> None:
        self._run(
            lambda: self._dist.all_gather(heard, sent, group=self._host, async_op=True), _PATIENCE
        )

    def _run(self, start: Callable[[], Any], patience: timedelta) -> None:
        """Runs a collective, so that ^C is heard, and that a rank that is gone is an error."""
        if self._host is None:
            raise UsageError("this learner is closed, or another rank of it has gone")
        end = time.monotonic() + patience.total_seconds()
        try:
            work = start()
            while not work.is_completed():
                if time.monotonic() > end:
                    raise Error(f"a rank has not come within {patience}: end all, and start again")
                with suppress(RuntimeError):  # not yet
                    work.wait(_TICK)
            work.wait()
        except RuntimeError as error:
            self.close()
            raise Error(
                "another rank has gone: nothing is recorded of an update that was not committed; "
                "start all ranks again, and they go on with it"
            ) from error
        except BaseException:
            # The collective goes on in a thread of gloo, which freeing the group would wait for: the
            # others hear that this rank has gone when its process ends.
            self._host = None
            raise

    def _tried(self, work: Callable[[], T]) -> tuple[T | None, Exception | None]:
        try:
            return work(), None
        except Exception as error:
            return None, error
        except BaseException:  # ^C: the others hear that this rank has gone
            self.close()
            raise


@contextmanager
def _preferred(error: Exception | None) -> Iterator[None]:
    """Raises ``error`` after what is inside, and in place of its exception."""
    try:
        yield
    except Error:
        if error is None:
            raise
    if error is not None:
        raise error


def _portable(error: Exception | None) -> Exception | None:
    """The exception, or one of the same words if another process could not read it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return Error(f"{type(error).__name__}: {error}")
    return error


def _noted(error: Exception, rank: int) -> Exception:
    error.add_note(f"raised on rank {rank}")
    return error
