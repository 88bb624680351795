"""A writer of a run in a process of its own, for the tests that kill it.

usage: write_me.py RUN BROKER [MODE]; prints one line for every step. MODE ``leave`` ends the program
after two groups, with one slot open and without closing the writer; ``hold`` takes every slot until
it is interrupted.
"""

from __future__ import annotations

import random
import signal
import sys

import vintage


KEPT: list[vintage.Writer] = []


def say(*words: object) -> None:
    print(*words, flush=True)


def sampled(slot: vintage.Slot) -> tuple[list[list[int]], list[list[float]], list[float]]:
    """Completions of one or two tokens; every other one begins with the answer, and is right."""
    rows = []
    for index, seed in enumerate(slot.seeds):
        draw = random.Random(seed)
        first = slot.prompt_tokens[index % 2]
        rows.append([first, slot.prompt_tokens[0]][: draw.randint(1, slot.max_tokens)])
    logprobs = [[-2.3] * len(row) for row in rows]
    return rows, logprobs, [float(row[0] == slot.prompt_tokens[0]) for row in rows]


def main() -> None:
    run, broker = sys.argv[1:3]
    mode = sys.argv[3] if len(sys.argv) > 3 else ""
    # A shell that starts the tests in the background has them, and so this program, ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    say("opening")
    writer = vintage.Writer(run, name="kill-me", settings={"broker": broker})
    say("opened")
    if mode == "hold":
        try:
            for _ in writer:
                say("holding")
        except KeyboardInterrupt:
            say("interrupted")
        writer.close()
        say("closed", writer.summary)
        return
    for number, slot in enumerate(writer):
        say("taken", slot.group)
        rows, logprobs, rewards = sampled(slot)
        if mode == "leave" and number == 2:
            say("leaving")
            KEPT.append(writer)  # so that it is the end of the program that drains it
            return
        future = writer.submit(slot, rows, logprobs, rewards=rewards)
        say("submitted", slot.group)
        if number % 2 == 0:
            say("written", future.result())
    writer.close()
    say("closed", writer.summary)


if __name__ == "__main__":
    main()
