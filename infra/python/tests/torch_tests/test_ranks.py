"""Several ranks train one run: the updates of one process, and no half update when a rank dies."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import pathlib
import signal
import tempfile
import time
import unittest
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

import vintage
from rank_me import Job, work
from small import REPOSITORY, audited, settings
from vintage.torch import score

STEPS = 4
#: Steps at which a rank is killed, and the seconds after them.
POINTS = [
    ("opened", 0.0),
    ("handed", 0.0),
    ("weighed", 0.0),
    ("stepping", 0.0),
    ("stepped", 0.0),
    ("gathering", 0.0),
    ("recording", 0.0),
    ("recording", 0.005),
    ("recording", 0.02),
    ("committed", 0.0),
]
#: One interpreter imports PyTorch; ranks are forked from it before anything is opened.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["rank_me"])


class Group:
    """Ranks in processes of their own, and what each has said."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.place = tempfile.TemporaryDirectory()
        self.lines: list[list[tuple[Any, ...]]] = [[] for _ in range(job.size)]
        self.pipes, self.processes = [], []
        for rank in range(job.size):
            heard, said = CONTEXT.Pipe(duplex=False)
            process = CONTEXT.Process(target=work, args=(rank, job, f"{self.place.name}/meeting", said))
            process.start()
            said.close()
            self.pipes.append(heard)
            self.processes.append(process)

    def until(self, rank: int, point: str) -> bool:
        """Waits until a rank has said ``point``; false if it ended before."""
        while not any(line[0] == point for line in self.lines[rank]):
            if not self.pipes[rank].poll(60):
                raise AssertionError(f"rank {rank} says no more: {self.lines}")
            try:
                self.lines[rank].append(self.pipes[rank].recv())
            except EOFError:
                return False
        return True

    def end(self, seconds: float = 60.0) -> list[int]:
        """Exit codes, once all have ended by themselves."""
        try:
            for rank in range(self.job.size):
                self.until(rank, "nothing that is said")
            deadline = time.monotonic() + seconds
            for process in self.processes:
                process.join(max(deadline - time.monotonic(), 0))
            codes = [process.exitcode for process in self.processes]
            assert None not in codes, (codes, self.lines)
            return codes
        finally:
            self.close()

    def close(self) -> None:
        for process in self.processes:
            if process.is_alive():
                process.kill()
                process.join()
        self.place.cleanup()

    def errors(self) -> list[tuple[Any, ...] | None]:
        raised = ([line[1:] for line in lines if line[0] == "raised"] for lines in self.lines)
        return [found[0] if found else None for found in raised]

    def results(self, rank: int) -> list[dict[str, Any]]:
        return [line[2] for line in self.lines[rank] if line[0] == "result"]


class Ranks(unittest.TestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = pathlib.Path(place.name)
        self.run_folder = self.folder / "run"

    def chosen(self, **more: object) -> dict[str, object]:
        named = {"learner__steps": STEPS, "learner__optimizer__lr": 0.003, "m2po__threshold": 1e-6}
        return settings(self.folder, **{**named, **more})

    def started(self, job: Job) -> Group:
        group = Group(job)
        self.addCleanup(group.close)
        return group

    def test_updates_are_those_of_one_process(self) -> None:
        """DDP and FSDP2, 2 and 4 ranks, in one pass, in several, and with fewer rows than ranks."""
        few = {
            "rollout__group_size": 3,
            "learner__prompts_per_update": 1,
            "warm_start__steps": 60,
        }
        masked = 0
        for number, (kind, size, more) in enumerate(
            [
                ("ddp", 2, {}),
                ("ddp", 4, {"learner__micro_batch_tokens": 7}),
                ("ddp", 2, {"learner__micro_batch_tokens": 10}),
                ("fsdp", 2, {"learner__micro_batch_tokens": 10}),
                ("fsdp", 4, {}),
                ("fsdp", 4, few),
                ("arrays", 2, {}),
            ]
        ):
            with self.subTest(kind=kind, size=size, more=more):
                run = self.folder / f"run-{number}"
                notes = run.with_suffix(".notes")
                notes.mkdir()
                # Every other one leaves the passes to the package.
                job = Job(run, self.chosen(**more), kind, size, notes=notes, trains=number % 2 == 1)
                group = self.started(job)
                self.assertEqual(group.end(), [0] * size, group.lines)
                for rank in range(size):
                    self.assertEqual(group.results(rank), group.results(0))
                    self.assertTrue(group.lines[rank][-1][1]["finished"])
                account = audited(run)
                self.assertEqual(account["trained"], STEPS * job.settings["learner.prompts_per_update"])
                masked += self.as_one_process(job, group.results(0))
        self.assertGreater(masked, 0, "a rule that masks nothing shows nothing")

    def as_one_process(self, job: Job, found: list[dict[str, Any]]) -> int:
        """Trains a follower on the plans, in this process, and compares; returns how many tokens were
        masked."""
        learner = vintage.Learner(
            job.run,
            name="one",
            follow_plans="lead",
            settings={"learner.source": "archive", "learner.lineages": ["lead"]},
        )
        masked = 0
        with learner:
            model = learner.build_model()
            learner.attach(model)
            for update in learner:
                parts = [np.load(job.notes / f"{update.number}-{r}.npz") for r in range(job.size)]
                places = np.concatenate([part["places"] for part in parts])
                count = len(update.batch.targets)
                self.assertEqual(sorted(places.tolist()), list(range(count)), "each target once")
                self.assertEqual(len({int(part["passes"]) for part in parts}), 1)
                for part in parts:
                    self.assertEqual(part["numbers"].tolist(), parts[0]["numbers"].tolist())

                def whole(name: str) -> torch.Tensor:
                    values = np.concatenate([part[name] for part in parts])
                    return torch.from_numpy(values[np.argsort(places)])

                # The rule on the ranks' log-probs, in one process: equal bits.
                again = update.weigh(whole("logprobs"))
                self.assertTrue(torch.equal(again.mask, whole("mask")), update.number)
                self.assertTrue(torch.equal(again.weights, whole("weights")), update.number)
                numbers = [again.value, *again.statistics.values()]
                # Sums of arrays are the learner's own code, in another order.
                exact = 1e-9 if job.kind == "arrays" else 0
                np.testing.assert_allclose(parts[0]["numbers"], numbers, rtol=exact, atol=0)

                with torch.no_grad():
                    own = torch.cat([score(model, piece)[0] for piece in update.micro_batches])
                torch.testing.assert_close(own, whole("logprobs"), atol=1e-4, rtol=0)
                weighed = update.train()
                result = update.commit()
                masked += result["masked_tokens"]
                # Log-probs that are rounded otherwise may be on the other side of the cut.
                apart = int((weighed.mask != whole("mask")).sum())
                self.assertLessEqual(apart, 0 if update.number == 0 else 1)
                for field in ("tokens", "rows", "groups", "staleness"):
                    self.assertEqual(result[field], found[update.number][field], field)
                for field in ("loss", "grad_norm", "entropy", "kl"):
                    self.assertAlmostEqual(
                        result[field],
                        found[update.number][field],
                        delta=1e-5 + 1e-3 * abs(result[field]),
                        msg=field,
                    )
            end = {name: value.numpy().copy() for name, value in model.state_dict().items()}
        self.assertEqual(len(found), STEPS)
        for name, values in load_file(job.run / f"weights/lead/{STEPS}/model.safetensors").items():
            # A step of AdamW has the size of lr, whatever the gradient is.
            np.testing.assert_allclose(values, end[name], atol=5e-4, rtol=0, err_msg=name)
        return masked

    def test_ranks_that_are_killed_leave_no_half_update(self) -> None:
        """Every step of an update, of rank 0 and of the last; DDP and FSDP2, on 2, 3 and 4 ranks in turn."""
        chosen = self.chosen(learner__steps=60, learner__checkpoint_every=3)
        variants = itertools.cycle([("ddp", 2), ("fsdp", 2), ("fsdp", 3), ("ddp", 4)])
        for point, delay in POINTS:
            for is_last in (False, True):
                kind, size = next(variants)
                if point == "gathering":
                    kind = "fsdp"  # of a model that every rank has, rank 0 takes its own
                rank = size - 1 if is_last else 0
                done = len(list(self.run_folder.glob("results/lead/*.json")))
                update = -1 if point == "opened" else done + (point != "handed")
                with self.subTest(point=point, delay=delay, kind=kind, size=size, rank=rank):
                    kill = (rank, point, update, delay)
                    group = self.started(Job(self.run_folder, chosen, kind, size, kill))
                    codes = group.end()
                    self.assertEqual(codes.pop(rank), -signal.SIGKILL, group.lines)
                    self.assertEqual(codes, [3] * (size - 1), "the others end by themselves")
                    if point not in ("opened", "recording", "committed"):
                        result = self.run_folder / f"results/lead/{update}.json"
                        self.assertFalse(result.exists(), "nothing is recorded of this update")
        chosen["learner.steps"] = len(list(self.run_folder.glob("results/lead/*.json"))) + 2
        for kind, size in (("fsdp", 2), ("ddp", 1)):
            group = self.started(Job(self.run_folder, chosen, kind, size))
            self.assertEqual(group.end(), [0] * size, group.lines)
        self.check_chain(int(chosen["learner.steps"]))
        audited(self.run_folder)

    def check_chain(self, steps: int) -> None:
        digests: list[str] = []
        for number in range(steps):
            plan = json.loads((self.run_folder / f"plans/lead/{number}.json").read_text())
            result = json.loads((self.run_folder / f"results/lead/{number}.json").read_text())
            self.assertEqual(plan["fingerprint"]["device"], "torch")
            if digests:
                self.assertEqual(plan["weights_sha256"], digests[-1], "plans are a chain")
            digests.append(result["weights_sha256"])

    def test_what_one_rank_refuses_all_refuse(self) -> None:
        for rank, oddity, kind, text, note in [
            (1, "plan", "ddp", "ranks disagree about update 0: its plan is", []),
            (1, "shape", "ddp", "logprobs of update 0 have shapes", ["raised on rank 1"]),
            (1, "next", "ddp", "rank 1 is at the next update, and rank 0 at weigh()", []),
            (1, "optimizer", "fsdp", "group 0 of the optimizer has lr", ["raised on rank 1"]),
            (0, "parameters", "ddp", "has a value of NaN", ["raised on rank 0"]),
            (0, "steps", "ddp", "the number of the optimizer's steps is 1 on rank 1", []),
            # Groups of equal rewards have no gradient, which is equal on all ranks.
            (0, "nothing", "bare", "and averaged ones are equal", []),
        ]:
            with self.subTest(oddity):
                group = self.started(
                    Job(self.run_folder, self.chosen(), kind, 3, oddity=(rank, oddity))
                )
                self.assertEqual(group.end(), [3] * 3, group.lines)
                for place, found in enumerate(group.errors()):
                    kind_of, message, notes = found
                    self.assertEqual(kind_of, "UsageError", found)
                    self.assertIn(text, message)
                    self.assertEqual(notes, [] if place == rank else note)
                if kind != "bare":
                    self.assertEqual(list(self.run_folder.glob("results/lead/*")), [])
        # Refused once, mended and committed; and two ranks of three.
        for job in (
            Job(self.run_folder, self.chosen(), "fsdp", 3, oddity=(0, "mended"), most=3),
            Job(self.run_folder, self.chosen(), "ddp", 3, members=[1, 2]),
        ):
            group = self.started(job)
            self.assertEqual(group.end(), [0] * 3, group.lines)
        audited(self.run_folder)

    def test_a_run_that_is_held_is_refused_on_all_ranks(self) -> None:
        with vintage.Learner(self.run_folder, settings=self.chosen()):
            group = self.started(Job(self.run_folder, self.chosen()))
            self.assertEqual(group.end(), [3, 3])
        raised = group.errors()
        self.assertEqual([found[:2] for found in raised], [raised[0][:2]] * 2)
        self.assertIn("is in use by another process", raised[0][1])

    def test_the_program_on_the_page_trains(self) -> None:
        page = (REPOSITORY / "docs" / "python.md").read_text()
        program = page[page.index("# train.py:") :].split("```")[0]
        wanted = 'settings={"learner.steps": 20}'
        self.assertIn(wanted, program)
        program = program.replace(wanted, f"settings={self.chosen()!r}")
        for shard in ("", "1"):
            lines = [f"import os; os.environ['SHARD'] = '{shard}'"]
            if shard:
                # Values go through the program's group, as those on GPUs do.
                lines.append("from vintage.ranks import Ranks")
                lines.append("Ranks._is_through_host = lambda *_: False")
            wrapped = "\n".join([*lines, program])
            folder = self.folder / f"shard-{shard}"
            folder.mkdir()
            group = self.started(Job(folder, {}, size=2, program=wrapped))
            self.assertEqual(group.end(), [0, 0])
            self.assertEqual(audited(folder / "runs/ranks")["trained"], 4 * STEPS)

    def test_an_interrupt_ends_every_rank_and_the_run_goes_on(self) -> None:
        """^C, as a terminal sends it: to all ranks. One rank alone hears it while it waits for another."""
        for oddity in (None, (0, "wait")):
            group = self.started(Job(self.run_folder, self.chosen(), oddity=oddity))
            self.assertTrue(group.until(1, "handed"))
            os.kill(group.processes[1].pid, signal.SIGINT)
            if oddity is None:
                os.kill(group.processes[0].pid, signal.SIGINT)
            else:
                group.until(1, "raised")
                os.kill(group.processes[0].pid, signal.SIGINT)
            self.assertEqual(group.end(), [3, 3], group.lines)
            self.assertEqual([found[0] for found in group.errors()], ["KeyboardInterrupt"] * 2)
        group = self.started(Job(self.run_folder, self.chosen()))
        self.assertEqual(group.end(), [0, 0], group.lines)
        audited(self.run_folder)


if __name__ == "__main__":
    unittest.main()
