"""The example for the Trainer of Hugging Face: it learns from an archive, and goes on when started again."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from safetensors.numpy import load_file
from small import REPOSITORY, ran

EXAMPLE = REPOSITORY / "infra/python/examples/trainer.py"


class Example(unittest.TestCase):
    def test_it_trains_and_goes_on_as_one_that_was_not_stopped(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            folder = pathlib.Path(place)
            run = ran(folder, warm_start__steps=120)
            for out, steps in (("whole", 20), ("parts", 10), ("parts", 20)):
                command = [sys.executable, str(EXAMPLE), str(run), str(folder / out), str(steps)]
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                ended = subprocess.run(
                    command, capture_output=True, text=True, timeout=240, check=False, env=environment
                )
                self.assertEqual(ended.returncode, 0, ended.stderr)
            state = json.loads((folder / "whole/checkpoint-20/trainer_state.json").read_text())
            norms = [entry["grad_norm"] for entry in state["log_history"] if "grad_norm" in entry]
            self.assertGreater(sum(norm > 0 for norm in norms), 10)
            first = load_file(run / "weights/lead/0/model.safetensors")
            whole = load_file(folder / "whole/model.safetensors")
            parts = load_file(folder / "parts/model.safetensors")
            self.assertEqual(set(whole), set(parts))
            self.assertTrue(any((whole[name] != first[name]).any() for name in first))
            for name, values in whole.items():
                self.assertTrue((values == parts[name]).all(), name)


if __name__ == "__main__":
    unittest.main()
