"""A PyTorch learner killed with SIGKILL goes on, and every group is accounted for."""

from __future__ import annotations

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from small import audited, flags, program, settings, vintage

SCRIPT = pathlib.Path(__file__).with_name("kill_me.py")
STEPS = 12
#: Steps at which a learner is killed: of its opening, of an update, of the record of an update.
POINTS = ("opening", "opened", "handed", "trained", "committed")


def environment(chosen: dict[str, object]) -> dict[str, str]:
    return {**os.environ, "VINTAGE_TEST_SETTINGS": json.dumps(chosen)}


class Process:
    """A learner of its own, and what it has said."""

    def __init__(self, chosen: dict[str, object], *words: object) -> None:
        self.lines: list[str] = []
        self.said = threading.Condition()
        command = [sys.executable, str(SCRIPT), *map(str, words)]
        self.child = subprocess.Popen(
            command, env=environment(chosen), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            with self.said:
                self.lines.append(line.strip())
                self.said.notify_all()

    def kill_at(self, point: str, count: int, delay: float) -> bool:
        """Kills it ``delay`` seconds after it said ``point`` for the ``count``-th time; false if it
        ended before."""
        deadline = time.monotonic() + 300
        with self.said:
            while sum(line.startswith(point) for line in self.lines) < count:
                if self.child.poll() is not None:
                    return False
                assert time.monotonic() < deadline, self.lines
                self.said.wait(0.05)
        try:
            self.child.wait(delay)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            return True
        return False

    def end(self) -> list[str]:
        assert self.child.stderr is not None
        stderr = self.child.stderr.read()
        self.child.wait(300)
        self.reader.join()
        assert self.child.returncode == 0, stderr
        return self.lines


class Kills(unittest.TestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = pathlib.Path(place.name)
        self.run_folder = self.folder / "run"
        self.random = random.Random(int(os.environ.get("VINTAGE_TEST_SEED", "7")))
        self.processes: list[Process] = []

    def tearDown(self) -> None:
        for process in self.processes:
            if process.child.poll() is None:
                process.child.kill()
                process.child.wait()

    def killed_at_every_point(self, chosen: dict[str, object], *words: object) -> int:
        """Kills a learner at every point, or a little later, and lets the last one finish."""
        kills = 0
        for point in POINTS:
            process = Process(chosen, self.run_folder, *words)
            self.processes.append(process)
            count = 1 if point.startswith("open") else self.random.randint(1, 2)
            delay = self.random.choice([0.0, 0.002, 0.01, 0.05])
            if not process.kill_at(point, count, delay):
                process.end()
                break
            kills += 1
        last = Process(chosen, self.run_folder, *words)
        self.processes.append(last)
        said = last.end()
        self.assertTrue(said[-1].startswith("closed"), said)
        self.assertTrue(json.loads(said[-1].split(" ", 1)[1])["finished"], said)
        return kills

    def check(self, learner: str) -> None:
        folder = self.run_folder
        digests = []
        for number in range(STEPS):
            plan = json.loads((folder / f"plans/{learner}/{number}.json").read_text())
            result = json.loads((folder / f"results/{learner}/{number}.json").read_text())
            self.assertEqual(plan["fingerprint"]["device"], "torch")
            if digests:
                self.assertEqual(plan["weights_sha256"], digests[-1], "plans are a chain")
            digests.append(result["weights_sha256"])
        self.assertEqual(len(set(digests)), STEPS, "every update changed the weights")

    def test_a_lead_with_all_roles_in_its_process(self) -> None:
        chosen = settings(self.folder, learner__steps=STEPS, learner__checkpoint_every=3)
        kills = self.killed_at_every_point(chosen)
        self.assertGreaterEqual(kills, 4)
        self.check("lead")
        audited(self.run_folder)

    def test_a_lead_and_a_follower_on_a_broker_of_their_own(self) -> None:
        """Producer and archive are the built program; the lead is killed, then the follower."""
        up = vintage("broker", "up", "--dir", self.folder / "kafka", "--output", "json")
        self.assertEqual(up.returncode, 0, up.stderr)
        self.addCleanup(vintage, "broker", "down", "--dir", self.folder / "kafka")
        address = json.loads(up.stdout)["bootstrap"]
        chosen = settings(
            self.folder, learner__steps=STEPS, learner__checkpoint_every=3, broker=address
        )
        roles = []
        for role in ("archive", "rollout"):
            command = [program(), role, "--out", str(self.run_folder), "--broker", address]
            roles.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            )
        archive, producer = roles
        try:
            kills = self.killed_at_every_point(chosen)
            self.assertGreaterEqual(kills, 4)
            self.assertEqual(producer.wait(120), 0)
            follower = {"learner.checkpoint_every": 3}
            kills = self.killed_at_every_point(follower, "b", "lead")
            self.assertGreaterEqual(kills, 4)
        finally:
            for role in roles:
                role.terminate()
            errors = [role.communicate(timeout=120)[1] for role in roles]
        self.assertEqual(archive.returncode, 0, errors)
        self.check("lead")
        self.check("b")
        audited(self.run_folder, "b")


if __name__ == "__main__":
    unittest.main()
