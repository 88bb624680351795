"""vintage: train a model by reinforcement learning on rollouts from a durable log.

* :class:`Learner` trains a run with PyTorch (or with anything that gives arrays): every update's
  plan is durable before it is computed, and a killed program goes on where it was.
* :func:`read` reads archived rollouts as Arrow record batches, :func:`uses` says which update used
  which.
* :func:`weigh` is M2PO's mask and loss on NumPy arrays; :mod:`vintage.torch` has it in PyTorch.

``import vintage`` needs NumPy and pyarrow; what needs PyTorch imports it when it is called.
"""

from ._native import Error, FencedError, UsageError
from ._native import version as __version__
from .batch import Batch, Padded
from .learner import Learner, Update
from .weighed import Weighed
from .reading import read, uses
from .weighing import weigh

__all__ = [
    "Batch",
    "Error",
    "FencedError",
    "Learner",
    "Padded",
    "Update",
    "UsageError",
    "Weighed",
    "__version__",
    "read",
    "uses",
    "weigh",
]
