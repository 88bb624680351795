"""TRL's asynchronous GRPO trainer as the learner of a run."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
from transformers import TrainerCallback
from trl.experimental.async_grpo.async_grpo_config import AsyncGRPOConfig
from trl.experimental.async_grpo.async_grpo_trainer import AsyncGRPOTrainer as _AsyncGRPOTrainer
from trl.experimental.async_grpo.packing import TreeRow

from .._native import UsageError
from ..learner import Learner
from ..update import Update
from ..torch import adamw
from .tokenizer import load_tokenizer
from .worker import Worker, host

#: No row of a plan is dropped: the learner bounded its staleness when it planned it.
_NEVER = 2**31


class AsyncGRPOTrainer(_AsyncGRPOTrainer):
    """TRL's asynchronous GRPO trainer as the learner of a run.

    ``learner`` is an open :class:`vintage.Learner`. TRL's loop, attention, loss and logging train
    the model; the learner says which rows are the next step, and records it. The run's rule must be
    ``grpo`` (TRL's clip is its clip) or ``none``; what TRL computed is compared with it at every
    commit. Taken from the run, whatever ``args`` say: rate, betas, eps and decay of AdamW, the clip
    of gradients, ``epsilon``, ``temperature``, and that nothing is dropped as stale. A step has
    ``gradient_accumulation_steps`` micro-batches of the update's rows.

    The model is that of the run: its shape is read from the run's folder, and weights and moments are
    those of the newest checkpoint. Checkpoints of TRL are not needed, and not resumed from: a program
    that was killed is started again as it was.

    One process computes. Other arguments are TRL's, except reward functions, data sets, optimizers,
    adapters and tools: rollouts are the producers'. Raises :class:`UsageError` if the run does not fit.
    """

    optimizer: Any

    def __init__(
        self,
        learner: Learner,
        args: AsyncGRPOConfig | None = None,
        *,
        processing_class: Any = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        worker = Worker(learner)
        update = worker.advance()
        if update is None:
            raise UsageError(f"the run {learner.run} has finished")
        args = AsyncGRPOConfig("trl") if args is None else args
        with open(os.path.join(learner.run, "config.toml"), "rb") as file:
            steps = int(tomllib.load(file)["learner"]["steps"])
        _take_settings(args, update, steps)
        folder = os.path.join(learner.run, "weights", update.plan["policy"], "0")
        super().__init__(
            model=folder,
            args=args,
            train_dataset=datasets.Dataset.from_dict({"prompt": [""]}),
            processing_class=processing_class or load_tokenizer(folder),
            callbacks=list(callbacks),
            rollout_worker=worker,
            weight_transfer=worker,
        )
        if self.accelerator.num_processes > 1 or self.args.n_gpu > 1:
            raise UsageError(
                "vintage.trl.AsyncGRPOTrainer computes in one process, on one device: choose one with "
                "CUDA_VISIBLE_DEVICES"
            )
        self.worker = worker
        self._places: list[list[int]] = []
        self._outputs: Any = None
        model: Any = self.model
        model.register_forward_hook(self._keep)
        self.add_callback(_Ending(worker))

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """Trains until the run has finished, or ``max_steps`` of this process."""
        if resume_from_checkpoint:
            raise UsageError(
                "the run's own checkpoint has weights, moments and offsets: train() goes on from it"
            )
        return super().train(None, trial, ignore_keys_for_eval)

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW of the run, with the moments of its newest checkpoint."""
        if self.optimizer is None:
            update = self.worker.advance()
            assert update is not None
            learner = self.worker.learner
            own: Any = self.model if model is None else model
            optimizer = adamw(own, update.optimizer_settings)
            learner.attach(own, optimizer)
            learner._load(update)
            self.optimizer = optimizer
        return self.optimizer

    def get_train_dataloader(self) -> Any:
        """Micro-batches of one update after the other. TRL's loader looks one ahead, beyond the end of
        an update, and what comes next is planned only after the commit."""
        return _Steps(self, super().get_train_dataloader())

    def compute_loss(self, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        """TRL's loss; the log-probs behind it are kept for the record."""
        base: Any = super()
        loss = base.compute_loss(model, inputs, *more, **named)
        index = inputs["token_index"][inputs["token_index"] >= 0]
        logprobs, entropy = (column.flatten()[index] for column in self._outputs)
        self.worker.scored(self._places.pop(0), logprobs, entropy, float(loss.detach()))
        self._outputs = None
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        base: Any = super()
        norm = base._clip_grad_norm(model)
        self.worker.stepping(float(norm))
        return norm

    def _keep(self, module: Any, given: Any, output: Any) -> None:
        if getattr(output, "log_probs", None) is not None:
            self._outputs = (output.log_probs.detach(), output.entropy.detach())


class _Steps:
    """Loader without a length: for each step, the micro-batches of one update."""

    def __init__(self, trainer: AsyncGRPOTrainer, loader: Any) -> None:
        self._trainer = trainer
        self._samples = loader.dataset.dataset  # below TRL's planner: one row after the other
        self._collate = loader.collate_fn

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker, pieces = self._trainer.worker, self._trainer.args.gradient_accumulation_steps
        samples = iter(self._samples)
        tree: Any = TreeRow
        while (update := worker.advance()) is not None:
            _check_fit(self._trainer.args, update)
            rows = worker.rows_left()
            if rows < len(update.batch):
                raise UsageError(
                    f"update {update.number} was begun and not recorded: close the learner, and open it again"
                )
            if rows < pieces:
                raise UsageError(
                    f"update {update.number} has {rows} rows, and gradient_accumulation_steps is {pieces}"
                )
            trained = max(int(host(update.batch.loss_mask).sum()), 1)
            bounds = np.linspace(0, rows, pieces + 1).astype(int)
            for count in np.diff(bounds):
                row = tree()
                for _ in range(count):
                    row.add(next(samples))
                # The mean of TRL's means over micro-batches is then the mean over the update.
                own = sum(int(sample["completion_mask"].sum()) for sample in row.samples)
                for sample in row.samples:
                    sample["advantage"] *= own * pieces / trained
                self._trainer._places.append(worker.planned([row]))
                yield self._collate([[row]])


class _Ending(TrainerCallback):
    """Ends the training with the run."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step < state.max_steps and self._worker.advance() is None:
            control.should_training_stop = True


def _take_settings(args: AsyncGRPOConfig, update: Update, steps: int) -> None:
    """Has TRL compute what the plan says."""
    rule, optimizer = update.algorithm, update.optimizer_settings
    if rule["name"] not in ("grpo", "none"):
        raise UsageError(
            f"the run's rule is {rule['name']}, and TRL's loss is that of algorithm = \"grpo\" or "
            '"none": set it, or compute updates with update.train()'
        )
    args.epsilon, args.temperature = _epsilon(update), _temperature(update)
    args.epsilon_high = None
    args.max_grad_norm = float(optimizer["grad_clip"])
    args.learning_rate = float(optimizer["lr"])
    args.weight_decay = float(optimizer["weight_decay"])
    args.lr_scheduler_type = "constant"
    args.max_staleness = _NEVER
    args.weight_sync_steps = 1
    args.token_budget = 0
    if args.max_steps <= 0:
        args.max_steps = steps - update.number


def _check_fit(args: Any, update: Update) -> None:
    """Compares a plan with what TRL was made with, from the first."""
    found = {"epsilon": _epsilon(update), "temperature": _temperature(update)}
    for name, value in found.items():
        if getattr(args, name) != value:
            raise UsageError(
                f"update {update.number} has {name} {value}, and TRL has {getattr(args, name)}: make the "
                "trainer again"
            )


def _epsilon(update: Update) -> float:
    """TRL's clip; wider than any ratio for a rule without one."""
    rule = update.algorithm
    return float(rule["clip_eps"]) if rule["name"] == "grpo" else float(_NEVER)


def _temperature(update: Update) -> float:
    temperatures = np.unique(host(update.batch.temperature))
    if len(temperatures) != 1:
        raise UsageError(
            f"rows of update {update.number} were sampled at the temperatures {temperatures.tolist()}, and "
            "TRL takes one"
        )
    return float(temperatures[0])
