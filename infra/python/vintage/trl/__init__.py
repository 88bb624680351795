"""Trainers of TRL over a run: the asynchronous one as its learner, the plain one over its archive.

* :class:`AsyncGRPOTrainer` is TRL's, and its rollout worker is a :class:`Worker`: every step is an
  update of a :class:`vintage.Learner`, planned before it is computed and recorded after it.
* :class:`GRPOTrainer` is TRL's, and its ``rollout_func`` is a :class:`Recorded`: it trains on the
  groups of an archive, and samples nothing.

Written for TRL 1.16; needs ``pip install 'vintage[trl]'``.
"""

from .recorded import GRPOTrainer, Recorded
from .trainer import AsyncGRPOTrainer
from .worker import Worker

__all__ = ["AsyncGRPOTrainer", "GRPOTrainer", "Recorded", "Worker"]
