"""Puts the same rollouts through the log, TransferQueue and a queue of Ray: speed, and what kills leave.

usage: stores.py [--groups N] [--rounds N] [--output text|json]; prints one table. Every process that it
starts is ended by its id. The learner is stopped while speed is measured, and nothing else of ours runs.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import queue
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from log_store import VOCABULARY, Cluster, submit
from rollouts import SAMPLES, Group, groups

import vintage

#: Groups of a kill's trial, and after how many the victim dies.
TRIAL, HALF = 24, 12
#: Stores that live in Ray.
NAMES = {"transfer": "TransferQueue", "queue": "queue of Ray"}
#: What the processes complain about; killed ones do.
ERRORS = None if os.environ.get("STORES_VERBOSE") else subprocess.DEVNULL


def note(*words: object) -> None:
    """Prints progress."""
    print(*words, file=sys.stderr, flush=True)


def rate(made: list[Group], work: Callable[[], object]) -> float:
    """MB/s of a piece of work over these groups."""
    start = time.perf_counter()
    work()
    return sum(group.bytes for group in made) / 1e6 / (time.perf_counter() - start)


def spread(rates: list[float]) -> str:
    """Median of the rounds after the first, which opens connections, and their range."""
    kept = rates[1:]
    return f"{statistics.median(kept):.0f} ({min(kept):.0f}–{max(kept):.0f})"


class Child:
    """A process of this program in a role, whose lines are read as they come."""

    def __init__(self, *words: object) -> None:
        command = [sys.executable, "-W", "ignore", __file__, "child", *map(str, words)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=ERRORS, text=True)
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put("ended")

    def wait_for(self, wanted: str, seconds: float = 60.0) -> str | None:
        """First line that begins so; None if the process ends or the time is over."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                line = self.lines.get(timeout=left)
            except queue.Empty:
                return None
            if line == "ended":
                return None
            if line.startswith(wanted):
                return line
        return None

    def kill(self) -> None:
        """Ends it with SIGKILL."""
        self.process.kill()
        self.process.wait()


def say(*words: object) -> None:
    """Prints a line at once."""
    print(*words, flush=True)


def child(words: list[str]) -> None:
    """Roles of the processes that are killed, and of those that look what is left."""
    store, role, place = words[:3]
    if store == "log":
        log_child(role, json.loads(place))
        return
    import ray_stores  # seconds of imports, which the log's processes do without

    ray_stores.join(place)
    opened: Any = ray_stores.TransferQueue() if store == "transfer" else ray_stores.RayQueue(words[3])
    if store == "transfer":
        opened.partition = words[3]
    each = SAMPLES if store == "transfer" else 1
    if role == "put":
        for number, group in enumerate(groups(TRIAL, VOCABULARY)):
            opened.put([group])
            say("put", number + 1)
    elif role == "take":
        opened.take(HALF * each)
        say("took", HALF)
    elif role == "get":
        got = 0
        while got < TRIAL and opened.left() >= each:
            opened.get(each)
            got += 1
            say("store got", got)
        say("store done", got)
    while role in ("put", "take"):
        time.sleep(3600)


def log_child(role: str, place: dict[str, str]) -> None:
    """The same roles over the log."""
    if role == "put":
        writer = vintage.Writer(place["run"], name="killed", settings={"broker": place["broker"]})
        for number, group in enumerate(groups(TRIAL, VOCABULARY)):
            submit(writer, writer.take(), group).result()
            say("put", number + 1)
    else:
        seen = set()
        for batch in vintage.read(place["topic"], columns=["group_id", "behavior_logprobs"], rows=1):
            seen.update(batch["group_id"].to_pylist())
            if role == "take" and len(seen) >= HALF:
                say("took", len(seen))
                time.sleep(3600)
        say("store done", len(seen))
    while role == "put":
        time.sleep(3600)


def got_by(*words: object) -> int:
    """Groups that a new consumer reads, up to where it fails or hangs for 20 s."""
    reader = Child(*words)
    got = 0
    while (line := reader.wait_for("store ", 20.0)) is not None:
        _, kind, number = line.split()
        got = int(number)
        if kind == "done":
            break
    reader.kill()
    return got


def killed(words: Callable[[str], list[object]], role: str, line: str) -> int:
    """Starts a role, kills it at a line; the number that it printed last."""
    victim = Child(*words(role))
    said = victim.wait_for(line)
    victim.kill()
    if said is None:
        raise RuntimeError(f"{words(role)} did not come to {line!r}")
    return int(said.split()[1])


def log_rows(folder: pathlib.Path, made: list[Group], rounds: int) -> dict[str, Any]:
    """The log: speed and kills."""
    cluster = Cluster(folder)
    try:
        put, get = [], []
        with cluster.writer() as writer:
            for number in range(rounds):
                slots = [writer.take(60.0) for _ in made]
                cluster.freeze(True)

                def publish() -> None:
                    for slot, group in zip(slots, made):
                        submit(writer, slot, group)
                    writer.flush()

                put.append(rate(made, publish))
                get.append(rate(made * (number + 1), cluster.get))
                note("log round", number, put[-1], get[-1])
                cluster.freeze(False)
        before = len(made) * rounds
        place = json.dumps({"run": str(cluster.run), "broker": cluster.broker, "topic": cluster.topic})

        def words(role: str) -> list[object]:
            return ["log", role, place]

        acknowledged = killed(words, "put", f"put {HALF}")
        after_producer = got_by(*words("get")) - before
        there = after_producer + killed(words, "put", f"put {HALF}")
        killed(words, "take", "took")
        after_consumer = got_by(*words("get")) - before
        for process in cluster.processes():
            os.kill(process, signal.SIGKILL)
        cluster.up()
        after_store = got_by(*words("get")) - before
    finally:
        cluster.close()
    return {
        "put": put,
        "get": get,
        "producer": (after_producer, acknowledged),
        "consumer": (after_consumer, there),
        "store": (after_store, there),
    }


def ray_rows(store: str, address: str, made: list[Group], rounds: int) -> dict[str, Any]:
    """A store in Ray: speed and kills."""
    import ray_stores

    put, get = [], []
    each = SAMPLES if store == "transfer" else 1
    opened: Any = ray_stores.TransferQueue() if store == "transfer" else ray_stores.RayQueue()

    def puts() -> None:
        for first in range(0, len(made), 8):
            opened.put(made[first : first + 8])

    def gets() -> None:
        for _ in range(len(made) // 8):
            opened.get(8 * each)

    for number in range(rounds):
        if store == "transfer":
            opened.partition = f"speed-{number}"
        put.append(rate(made, puts))
        get.append(rate(made, gets))
        note(store, "round", number, put[-1], get[-1])
        if store == "transfer":
            opened.renew()
    found: dict[str, Any] = {"put": put, "get": get}
    for name in ("producer", "consumer", "store"):
        place = f"{store}-{name}"

        def words(role: str) -> list[object]:
            return [store, role, address, place]

        there: Any = opened
        if store == "transfer":
            there.partition = place
        else:
            there = ray_stores.RayQueue(place)
        if name == "producer":
            acknowledged = killed(words, "put", f"put {HALF}")
            found[name] = (got_by(*words("get")), acknowledged)
            note(store, name, found[name])
            continue
        for group in groups(TRIAL, VOCABULARY):
            there.put([group])
        if name == "consumer":
            killed(words, "take", "took")
        else:
            for process in there.processes():
                os.kill(process, signal.SIGKILL)
        found[name] = (got_by(*words("get")), TRIAL)
        note(store, name, found[name])
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """The table of the page."""
    lines = [
        "| | put, MB/s | get, MB/s | consumer killed | producer killed | store killed |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        left = [f"{got} of {of}" for got, of in (row[kind] for kind in ("consumer", "producer", "store"))]
        lines.append(f"| {name} | {spread(row['put'])} | {spread(row['get'])} | {' | '.join(left)} |")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--only", choices=["log", "transfer", "queue"], help="one store alone")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    chosen = parser.parse_args()
    if chosen.rounds < 2 or chosen.groups < 8 or chosen.groups % 8:
        parser.error("--rounds is 2 or more, and --groups a multiple of 8")
    made = groups(chosen.groups, VOCABULARY)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vintage-stores-"))
    try:
        found = {}
        if chosen.only in (None, "log"):
            found["vintage"] = log_rows(folder, made, chosen.rounds)
        wanted = [store for store in NAMES if chosen.only in (None, store)]
        if wanted:
            import ray_stores

            address = ray_stores.start()
            for store in wanted:
                found[NAMES[store]] = ray_rows(store, address, made, chosen.rounds)
            ray_stores.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if chosen.output == "json":
        print(json.dumps(found))
        return
    megabytes = sum(group.bytes for group in made) / 1e6
    names = ("TransferQueue", "ray", "tensordict", "torch", "numpy", "pyarrow")
    print(f"{chosen.groups} groups of {SAMPLES}, {megabytes:.1f} MB a round; {chosen.rounds - 1} rounds after one")
    print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in names))
    print(table(found))


if __name__ == "__main__":
    main()
