"""Rollout worker and weight transfer of TRL's asynchronous trainer: the plans of a learner."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from trl.experimental.async_grpo.async_rollout_worker import RolloutSample
from trl.experimental.async_grpo.packing import TreeRow

from .._native import UsageError
from ..learner import Learner
from ..update import Update


class Worker:
    """Rollout worker of TRL's asynchronous trainer, and its weight transfer: the plans of a learner.

    It implements ``RolloutWorkerProtocol`` and ``WeightTransferProtocol``. ``rollout_buffer`` gives
    the rows of the open update and nothing more; ``send_weights``, which TRL calls after each step,
    commits the update. Use it through :class:`AsyncGRPOTrainer`, which sees to it that a step is an
    update.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.rollout_buffer: Any = self
        self.metrics_queue: Any = queue.Queue()
        self.update: Update | None = None
        self._updates = iter(learner)
        self._ended = False
        self._version = 0
        self._samples: list[RolloutSample] = []
        self._given = 0
        self._scored: list[tuple[list[int], Any, Any]] = []
        self._loss = 0.0
        self._norm: float | None = None

    def advance(self) -> Update | None:
        """The open update; if there is none, the next, once it is planned. None after the last."""
        if self.update is None and not self._ended:
            self.update = next(self._updates, None)
            self._ended = self.update is None
            self._samples, self._given = [], 0
            self._scored, self._loss, self._norm = [], 0.0, None
        return self.update

    def rows_left(self) -> int:
        """Rows of the open update that :meth:`get` has not given yet; waits for a plan if none is open.
        0 after the last update."""
        if self.advance() is None:
            return 0
        return len(self._opened()) - self._given

    def get(self, timeout: float | None = None) -> RolloutSample:
        """Next row of the open update. Raises :class:`queue.Empty` at once when it has no more."""
        if self.advance() is None or self._given == len(self._opened()):
            raise queue.Empty
        self._given += 1
        return self._samples[self._given - 1]

    def qsize(self) -> int:
        """Rows of the open update that are left, without waiting for a plan."""
        return 0 if self.update is None else len(self._opened()) - self._given

    def start(self) -> None:
        """Does nothing: producers of the run are processes of their own."""

    def stop(self) -> None:
        """Does nothing: whoever opened the learner closes it."""

    def update_model_version(self, model_version: int) -> None:
        """Takes TRL's count of versions, from which it computes staleness."""
        self._version = int(model_version)

    def check_health(self, stale_after_s: float) -> None:
        """Raises :class:`UsageError` if TRL waits for rows that no plan has."""
        if self.qsize() == 0:
            raise UsageError(
                "the trainer waits for more rows than the update has: use vintage.trl.AsyncGRPOTrainer, "
                "whose steps are updates"
            )

    def init_weight_transfer(self) -> None:
        """Does nothing: weights are published by the commit."""

    def pause(self) -> None:
        """Does nothing: producers load a version when they are ready."""

    def resume(self) -> None:
        """Does nothing: see :meth:`pause`."""

    def destroy(self) -> None:
        """Does nothing: see :meth:`stop`."""

    def send_weights(self, iterator: Iterator[tuple[str, torch.Tensor]]) -> None:
        """Commits the update whose step was taken: weights, result, announcement, checkpoint.

        Before the first step there is nothing to commit: the run has those weights already.
        """
        update = self.update
        if update is None or self._norm is None:
            return
        logprobs, entropy = self._in_order(update)
        weighed = update.weigh(logprobs, entropy=entropy)
        if not abs(self._loss - weighed.value) <= 1e-5 + 1e-3 * abs(weighed.value):  # NaN too
            raise UsageError(
                f"TRL's loss of update {update.number} is {self._loss}, and the run's rule gives "
                f"{weighed.value}: nothing was recorded"
            )
        update.commit(grad_norm=self._norm)
        self.update = None

    def planned(self, rows: Sequence[TreeRow]) -> list[int]:
        """Places in the update of the rows that TRL packed, in its order."""
        by_array = {id(sample.input_ids): place for place, sample in enumerate(self._opened())}
        return [by_array[id(sample["input_ids"])] for row in rows for sample in row.samples]

    def scored(self, places: list[int], logprobs: Any, entropy: Any, loss: float) -> None:
        """Takes what TRL computed for a micro-batch: log-probs and entropies of its trained tokens,
        row by row, and its part of the loss."""
        self._scored.append((places, logprobs, entropy))
        self._loss += loss

    def stepping(self, norm: float) -> None:
        """Takes the norm of the gradients; the optimizer's step follows."""
        assert self.update is not None
        if not np.isfinite(norm):
            raise UsageError(
                f"update {self.update.number} gave a gradient norm of {norm}: nothing was changed; "
                "lower learner.optimizer.lr, or look at the rewards and log-probs of its groups"
            )
        self._norm = norm

    def _opened(self) -> list[RolloutSample]:
        if not self._samples and self.update is not None:
            self._samples = _samples(self.update, self._version)
        return self._samples

    def _in_order(self, update: Update) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs and entropies of all targets, in the order of the batch; 0 where none is trained."""
        batch = update.batch
        trained = host(batch.loss_mask).astype(bool)
        starts = np.concatenate([[0], np.cumsum(host(batch.target_counts))])
        found = [np.zeros(len(trained), dtype=np.float32) for _ in range(2)]
        seen = np.zeros(len(trained), dtype=bool)
        for places, *columns in self._scored:
            wanted = [np.arange(starts[row], starts[row + 1]) for row in places]
            indexes = np.concatenate(wanted)
            indexes = indexes[trained[indexes]]
            seen[indexes] = True
            for whole, part in zip(found, columns):
                whole[indexes] = host(part.float())
        if not np.array_equal(seen, trained):
            raise UsageError(
                f"TRL computed {int(seen.sum())} of the {int(trained.sum())} trained tokens of update "
                f"{update.number}: nothing was recorded"
            )
        device = batch.logprobs.device
        logprobs, entropy = (torch.from_numpy(values).to(device) for values in found)
        return logprobs, entropy


def _samples(update: Update, version: int) -> list[RolloutSample]:
    """Rows of an update as TRL takes them."""
    padded, batch = update.padded(), update.batch
    wide = {
        name: host(getattr(padded, name))
        for name in ("input_ids", "attention_mask", "loss_mask", "logprobs", "advantages", "staleness")
    }
    groups, rewards = host(batch.groups), host(batch.rewards)
    samples = []
    for row, length in enumerate(wide["attention_mask"].sum(axis=1)):
        mask = wide["loss_mask"][row, :length].astype(np.int64)
        advantages = wide["advantages"][row, :length][mask == 1]
        if len(advantages) and np.ptp(advantages) != 0:
            raise UsageError(
                f"row {row} of update {update.number} has an advantage for each token, and TRL takes "
                "one for each row"
            )
        stale = int(wide["staleness"][row, :length].max(initial=0))
        samples.append(
            RolloutSample(
                prompt=[],
                completion=[],
                input_ids=wide["input_ids"][row, :length].copy(),
                completion_mask=mask,
                old_log_probs=np.where(mask == 1, wide["logprobs"][row, :length], np.float32(0)),
                advantage=float(advantages[0]) if len(advantages) else 0.0,
                model_version=version - stale,
                group_id=int(batch.group_ids[int(groups[row])], 16),
                metrics={"reward": float(rewards[row])},
            )
        )
    return samples


def host(values: Any) -> np.ndarray[Any, Any]:
    """Array of a tensor, on the host."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
