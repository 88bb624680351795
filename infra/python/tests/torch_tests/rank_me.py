"""One rank of a PyTorch learner, for the tests of several: says what it does, dies where it is told."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import signal
import sys
import threading
import time
from typing import Any

import numpy as np
import torch
import torch._dynamo  # which DDP and AdamW import at their first use: once for all ranks
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import vintage
from vintage import state
from vintage.torch import adamw, score


@dataclasses.dataclass
class Job:
    """What the ranks do, and where one of them is killed."""

    run: pathlib.Path
    settings: dict[str, object]
    kind: str = "ddp"
    size: int = 2
    #: Rank, step of an update, its number, and seconds after the step.
    kill: tuple[int, str, int, float] | None = None
    #: Rank and what it does otherwise than the others.
    oddity: tuple[int, str] | None = None
    #: Text of a program that is run in ``run`` in place of all else.
    program: str | None = None
    #: Folder for what each rank saw of each update.
    notes: pathlib.Path | None = None
    #: Whether train() makes the passes.
    trains: bool = False
    #: Number of updates after which the loop is left.
    most: int = 1000
    #: Ranks of the default group that train, if not all do.
    members: list[int] | None = None


def work(rank: int, job: Job, meeting: str, said: Any) -> None:
    """Runs one rank; ``said`` is the end of a pipe for its lines."""
    # Ranks meet on the loopback device, by a file.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    begin = functools.partial(
        dist.init_process_group, init_method=f"file://{meeting}", world_size=job.size, rank=rank
    )
    if job.program is not None:
        # What torchrun gives it.
        os.environ["LOCAL_RANK"] = str(rank)
        os.chdir(job.run)
        dist.init_process_group = begin
        exec(compile(job.program, "train.py", "exec"), {})
        return
    begin("gloo")
    group = dist.new_group(job.members) if job.members else None
    if job.members and rank not in job.members:
        dist.barrier()
        return
    try:
        Rank(dist.get_rank(group), job, said, group).train()
    except BaseException as error:
        said.send(("raised", type(error).__name__, str(error), getattr(error, "__notes__", [])))
        sys.exit(3)
    if job.members:
        dist.barrier()
    dist.destroy_process_group()


class Rank:
    def __init__(self, rank: int, job: Job, said: Any, group: Any) -> None:
        self.rank, self.job, self.said, self.group = rank, job, said, group
        self.update = -1

    def at(self, point: str) -> None:
        """Says that the update is at a step, and dies if it is to die there."""
        self.said.send((point, self.update))
        if self.job.kill is None or self.job.kill[:3] != (self.rank, point, self.update):
            return
        delay = self.job.kill[3]
        if delay == 0.0:
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    def is_odd(self, how: str) -> bool:
        return self.job.oddity == (self.rank, how)

    def wrapped(self, model: torch.nn.Module) -> torch.nn.Module:
        if self.job.kind == "fsdp":
            mesh = init_device_mesh("cpu", (self.job.size,))
            for layer in model.model.layers:
                fully_shard(layer, mesh=mesh)
            return fully_shard(model, mesh=mesh)
        if self.job.kind == "ddp":
            return DistributedDataParallel(model, process_group=self.group)
        return model

    def watched(self, learner: vintage.Learner) -> None:
        """Dies between two parameters of a commit, or while rank 0 records."""
        put_together, first = state.put_together, learner._ranks.first

        def counted(tensor: torch.Tensor) -> torch.Tensor:
            self.parameters += 1
            if self.parameters == 3:
                self.at("gathering")
            return put_together(tensor)

        def noticed() -> Any:
            if self.is_committing:
                self.at("recording")
            return first()

        state.put_together = counted
        learner._ranks.first = noticed

    def train(self) -> None:
        self.parameters, self.is_committing = 0, False
        self.said.send(("opening", 0))
        with vintage.Learner(
            self.job.run, settings=self.job.settings, process_group=self.group
        ) as learner:
            self.watched(learner)
            if self.is_odd("plan"):
                self.other_plan(learner)
            model = self.wrapped(learner.build_model())
            if self.job.kind != "arrays":
                learner.attach(model)
            self.at("opened")
            for update in learner:
                self.update = update.number
                self.at("handed")
                if self.job.kind == "arrays":
                    result = self.by_arrays(model, update)
                else:
                    result = self.one(learner, model, update)
                self.at("committed")
                self.said.send(("result", update.number, result))
                if update.number + 1 == self.job.most:
                    break
        self.said.send(("summary", learner.summary))

    def one(
        self, learner: vintage.Learner, model: torch.nn.Module, update: vintage.Update
    ) -> dict[str, Any]:
        with torch.no_grad():
            scored = [score(model, piece) for piece in update.micro_batches]
        if self.is_odd("next"):
            next(iter(learner))
        if self.is_odd("shape"):
            scored[0] = (scored[0][0][1:], scored[0][1])
        if self.is_odd("wait"):
            time.sleep(600)
        if self.job.trains:
            weighed = update.train()
        else:
            weighed = self.by_hand(model, update, scored)
        if self.job.notes is not None:
            self.note(update, weighed, torch.cat([a for a, _ in scored]))
        self.spoil(model, learner.optimizer)
        if self.job.oddity == (0, "mended"):
            self.refused(model, update)
        self.parameters, self.is_committing = 0, True
        result = update.commit()
        self.is_committing = False
        return result

    def by_hand(
        self, model: torch.nn.Module, update: vintage.Update, scored: list[tuple[Any, Any]]
    ) -> vintage.Weighed:
        weighed = update.weigh([a for a, _ in scored], entropy=[b for _, b in scored])
        self.at("weighed")
        for place, piece in enumerate(update.micro_batches):
            weighed.surrogate(place, score(model, piece)[0]).backward()
        self.at("stepping")
        update.step()
        self.at("stepped")
        return weighed

    def spoil(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Changes what this rank is about to commit."""
        if self.is_odd("optimizer"):
            optimizer.param_groups[0]["lr"] *= 2
        if self.is_odd("steps"):
            for entry in optimizer.state.values():
                entry["step"] += 1
        if self.is_odd("parameters"):
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))

    def refused(self, model: torch.nn.Module, update: vintage.Update) -> None:
        """Commits what rank 0 refuses, and mends it; every rank is told."""
        parameter = next(model.parameters())
        before = parameter.detach().clone()
        if self.rank == 0:
            with torch.no_grad():
                parameter.mul_(float("nan"))
        try:
            update.commit()
        except vintage.UsageError:
            with torch.no_grad():
                parameter.copy_(before)
        else:
            raise AssertionError("NaN was committed")

    def by_arrays(self, model: torch.nn.Module, update: vintage.Update) -> dict[str, Any]:
        """An update of a program that attaches nothing, and weighs NumPy arrays."""
        values, first, second, steps = update.state()
        model.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
        optimizer = adamw(model, update.optimizer_settings)
        entries = [(name, values[name], first.get(name), second.get(name)) for name in values]
        state.load_state(model, optimizer, entries, steps)
        logprobs, entropy = score(model, update.batch)
        weighed = update.weigh(logprobs.detach().numpy(), entropy=entropy.numpy())
        assert isinstance(weighed.mask, np.ndarray)
        self.note(update, weighed, logprobs.detach())
        model.zero_grad()
        (torch.from_numpy(weighed.weights) * logprobs).sum().backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= self.job.size
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        first, second = state.moments_of(model, optimizer)
        return update.commit(model.state_dict(), (first, second, steps + 1), grad_norm=norm)

    def note(self, update: vintage.Update, weighed: vintage.Weighed, logprobs: torch.Tensor) -> None:
        portion = update._portion
        np.savez(
            self.job.notes / f"{update.number}-{self.rank}.npz",
            places=portion._places[self.rank],
            logprobs=logprobs.numpy()[portion._counted],
            mask=np.asarray(weighed.mask)[portion._counted],
            weights=np.asarray(weighed.weights)[portion._counted] / self.job.size,
            tokens=len(update.batch.input_ids),
            passes=len(update.micro_batches),
            numbers=np.array([weighed.value, *weighed.statistics.values()]),
        )

    def other_plan(self, learner: vintage.Learner) -> None:
        """Has this rank read another learning rate in the plan than the others."""
        receive = learner._ranks._receive

        def changed() -> Any:
            (handed, outcome), error = receive()
            handed["plan"] = handed["plan"].replace('"lr":', '"lr":1')
            return (handed, outcome), error

        learner._ranks._receive = changed
