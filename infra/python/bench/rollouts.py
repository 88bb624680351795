"""Rollouts of the shapes that language models give, the same for every store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Rollouts of a group, and tokens of its prompt.
SAMPLES, PROMPT = 8, 512
#: Fewest and most tokens of a completion.
SHORT, LONG = 1024, 4096


@dataclass(frozen=True)
class Group:
    """One group: ids and log-probs of each completion, and the version that sampled it."""

    number: int
    prompt: np.ndarray
    completions: list[np.ndarray]
    logprobs: list[np.ndarray]
    version: int

    @property
    def bytes(self) -> int:
        """Bytes of the columns alone: four for an id, four for a log-prob, eight for a row's version."""
        ids = len(self.completions) * self.prompt.nbytes + sum(row.nbytes for row in self.completions)
        return ids + sum(row.nbytes for row in self.logprobs) + 8 * len(self.completions)


def groups(count: int, vocabulary: int, seed: int = 0) -> list[Group]:
    """Groups with random ids below ``vocabulary``, completions of 1,024 to 4,096 tokens."""
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        lengths = draw.integers(SHORT, LONG + 1, SAMPLES)
        made.append(
            Group(
                number,
                draw.integers(0, vocabulary, PROMPT, dtype=np.int32),
                [draw.integers(0, vocabulary, length, dtype=np.int32) for length in lengths],
                [-draw.exponential(1.0, length).astype(np.float32) for length in lengths],
                0,
            )
        )
    return made
