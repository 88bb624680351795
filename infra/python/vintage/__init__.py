"""vintage: train a model by reinforcement learning on rollouts from a durable log.

* :class:`Learner` trains a run with PyTorch (or with anything that gives arrays): every update's
  plan is durable before it is computed, and a killed program goes on where it was.
* :class:`Writer` produces rollouts for a run: it takes slots from the lead, and publishes the groups
  that this program samples.
* :func:`read` reads archived rollouts as Arrow record batches, :func:`uses` says which update used
  which.
* :class:`Rollouts` and :class:`RolloutStream` are datasets of archived rollouts for a loop of one's
  own; :func:`to_dataset` gives one of Hugging Face.
* :func:`weigh` is M2PO's mask and loss on NumPy arrays; :mod:`vintage.torch` has it in PyTorch.

``import vintage`` needs NumPy and pyarrow; what needs PyTorch imports it when it is called.
"""

from ._native import Error, FencedError, UsageError
from ._native import version as __version__
from .batch import Batch, Padded
from .learner import Learner
from .reading import read, uses
from .rollouts import RolloutStream, Rollouts, collate, to_dataset
from .update import Update
from .weighed import Weighed
from .weighing import weigh
from .writer import Place, Slot, Writer

__all__ = [
    "Batch",
    "Error",
    "FencedError",
    "Learner",
    "Padded",
    "Place",
    "RolloutStream",
    "Rollouts",
    "Slot",
    "Update",
    "UsageError",
    "Weighed",
    "Writer",
    "__version__",
    "collate",
    "read",
    "to_dataset",
    "uses",
    "weigh",
]
