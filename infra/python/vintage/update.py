"""Update of a run: its plan, this rank's share of its batch, and what it is committed by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ._native import UsageError, version as __version__
from .batch import Batch
from .portion import Portion
from .weighed import Weighed
from .weighing import STATISTICS, weigh as weigh_arrays

if TYPE_CHECKING:
    import torch

    from .learner import Learner


class Update:
    """One update: its plan, which is durable, its batch, and what it is committed by.

    ``micro_batches`` are the batch's pieces as the plan cuts them. Under ``torch.distributed``, ``batch``
    and ``micro_batches`` are this rank's share; ``plan``, and what the rule decides, are of the whole.
    """

    def __init__(self, learner: Learner, handed: Mapping[str, Any]) -> None:
        self._learner = learner
        self._ranks = learner._ranks
        self._handed = handed
        self._portion = Portion(handed, learner._ranks)
        self._weighed: Weighed | None = None
        self._entropy: float | None = None
        self._grad_norm: float | None = None
        #: Plan of the update, as ``plans/<learner>/<number>.json`` has it.
        self.plan: dict[str, Any] = json.loads(handed["plan"])
        #: Number of the update; it makes version ``number + 1``.
        self.number: int = self.plan["version"]
        #: Shape of each parameter by name.
        self.shapes: dict[str, tuple[int, ...]] = {
            name: tuple(shape) for name, shape in handed["shapes"].items()
        }

    @property
    def algorithm(self) -> dict[str, Any]:
        """Rule of the update with its settings."""
        return dict(self.plan["algorithm"])

    @property
    def optimizer_settings(self) -> dict[str, Any]:
        """Settings of AdamW and of the clip of gradients."""
        return dict(self.plan["optimizer"])

    @cached_property
    def batch(self) -> Batch:
        """All rows of the update, or this rank's.

        A rank without a row of its own for a micro-batch has another rank's, whose ``loss_mask`` is false.
        """
        # Rows of groups that are trained again follow those of new ones.
        planned = self.plan["groups"] + [use["group"] for use in self.plan.get("reused", [])]
        groups = [group["group"] for group in planned]
        return Batch.of(self._portion.arrays(), groups, self._convert)

    @cached_property
    def micro_batches(self) -> list[Batch]:
        """Pieces of the batch that fit ``learner.micro_batch_tokens``, in order; on all ranks as many."""
        bounds = self._portion.bounds
        if len(bounds) == 2:
            return [self.batch]
        return [self.batch.rows(int(a), int(b)) for a, b in zip(bounds[:-1], bounds[1:])]

    def padded(self, pad_id: int = 0) -> Any:
        """The batch as rectangles: :meth:`Batch.padded`."""
        return self.batch.padded(pad_id)

    def state(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], int]:
        """Parameters, first and second moments (float32 arrays by name, moments flat) before the
        update, and the number of the optimizer's steps. For programs that attach no model."""
        entries, steps = self._learner._state(self.shapes, "cpu")
        values, first, second = {}, {}, {}
        for name, value, mean, square in entries:
            values[name] = np.asarray(value).reshape(self.shapes[name])
            if mean is not None:
                first[name], second[name] = np.asarray(mean), np.asarray(square)
        return values, first, second, steps

    def weigh(
        self,
        logprobs: Any,
        *,
        entropy: Any | None = None,
        proximal: Any | None = None,
    ) -> Weighed:
        """Weighs the whole batch by the run's rule.

        ``logprobs`` are the log-probs of all targets under the policy that is trained, ``[N]`` in the
        order of the batch, in nats; or a list of them, one for each micro-batch. ``entropy`` (``[N]``
        or a list) is kept for the result's mean, ``proximal`` is for ``m2po_areal``.

        Under ``torch.distributed`` each rank gives those of its share, and gets mask and weights of its
        share of what the rule makes of the whole batch; loss and statistics are the whole's.
        """
        given = {"logprobs": logprobs, "entropy": entropy, "proximal": proximal}
        joined: dict[str, Any] = {}

        def checked() -> list[str]:
            for name, values in given.items():
                if values is not None:
                    joined[name] = self._joined(values, name)
            return [f"{name} of {_kind(values)}" for name, values in joined.items()]

        kinds = self._ranks.together(f"weigh() of update {self.number}", checked)
        self._same("what weigh() is given", [", ".join(names) for names in kinds])
        whole = {name: self._portion.whole(values) for name, values in joined.items()}
        new = whole["logprobs"]
        columns = [self._column(name) for name in ("logprobs", "advantages", "loss_mask")]
        algorithm = self.algorithm
        arguments = {
            "rule": algorithm["name"],
            "threshold": algorithm["m2_threshold"],
            "clip": algorithm["clip_eps"],
            "clamp": algorithm["log_ratio_clamp"],
            "proximal": whole.get("proximal"),
        }
        is_tensor = not isinstance(new, np.ndarray)
        if is_tensor:
            from .torch import weigh, with_gradient

            _check_logprobs(float(new.max()) if new.numel() else 0.0)
            found = weigh(new, *columns, **arguments)
            mask, weights, loss, value = found.mask, found.weights, found.loss, found.value
            statistics = found.statistics
        else:
            columns = [np.asarray(column) for column in columns]
            _check_logprobs(float(np.max(new, initial=0.0)))
            arrays = weigh_arrays(new, *columns, **arguments)
            mask, weights, loss = arrays["mask"], arrays["weights"], arrays["loss"]
            value = float(loss)
            statistics = {name: arrays[name] for name in STATISTICS}
        spread = self._entropy
        if "entropy" in whole:
            trained = whole["entropy"][columns[2]]
            spread = float(trained.mean()) if len(trained) else 0.0
        # Sums may be rounded otherwise on another device: the numbers of all are rank 0's.
        with self._ranks.first() as answer:
            answer.value = value, spread, statistics
        value, self._entropy, statistics = answer.value
        # Averaged over the ranks, gradients are those of the whole batch.
        mask, weights = self._portion.own(mask), self._portion.own(weights) * self._ranks.size
        if is_tensor:
            loss = with_gradient(loss, weights, joined["logprobs"])
        self._weighed = Weighed(mask, weights, loss, value, statistics, self._bounds)
        return self._weighed

    def train(self) -> Weighed:
        """Computes the update with the attached model: log-probs, rule, gradients, one step of AdamW.

        One pass if the batch is one micro-batch; otherwise the rule needs all log-probs first, and
        each micro-batch passes twice. Call :meth:`commit` afterwards.
        """
        import torch

        from .torch import score

        model, optimizer = self._attached()
        optimizer.zero_grad(set_to_none=True)
        pieces = self.micro_batches
        if len(pieces) == 1:
            logprobs, entropy = score(model, pieces[0])
            weighed = self.weigh(logprobs, entropy=entropy)
            weighed.loss.backward()
        else:
            with torch.no_grad():
                scored = [score(model, piece) for piece in pieces]
            weighed = self.weigh([a for a, _ in scored], entropy=[b for _, b in scored])
            for place, piece in enumerate(pieces):
                # Gradients are averaged over the ranks once, with the last piece.
                is_last = place + 1 == len(pieces)
                apart = nullcontext if is_last else getattr(model, "no_sync", nullcontext)
                with apart():
                    logprobs, _ = score(model, piece)
                    weighed.surrogate(place, logprobs).backward()
        self.step()
        return weighed

    def step(self) -> float:
        """Clips the gradients as the run's settings say, and takes one step of the optimizer.

        Returns the norm before clipping. A norm that is not finite raises :class:`UsageError` and
        changes nothing.
        """
        import torch

        from .state import put_together

        model, optimizer = self._attached()
        gradients = [p for p in model.parameters() if p.grad is not None]
        limit = float(self.optimizer_settings["grad_clip"])

        def clipped() -> float:
            return float(put_together(torch.nn.utils.clip_grad_norm_(gradients, limit)))

        norms = self._ranks.together(f"step() of update {self.number}", clipped)
        try:
            norm = self._one_norm(norms)
            if not np.isfinite(norm):
                raise UsageError(
                    f"update {self.number} gave a gradient norm of {norm}: nothing was changed; lower "
                    "learner.optimizer.lr, or look at the rewards and log-probs of its groups"
                )
        except UsageError:
            optimizer.zero_grad(set_to_none=True)
            raise
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self._grad_norm = norm
        return norm

    def commit(
        self,
        model: Any | None = None,
        optimizer: Any | None = None,
        *,
        grad_norm: float | None = None,
    ) -> dict[str, Any]:
        """Records the update: weights, result, announcement, and a checkpoint if one is due.

        Without arguments, the attached model and optimizer. Otherwise ``model`` is a module, or its
        parameters by name (tensors or float32 arrays), and ``optimizer`` an AdamW, or ``(exp_avg,
        exp_avg_sq, steps)`` with moments by name. ``grad_norm`` is the norm of the gradients before
        clipping, unless :meth:`step` took the step.

        Returns the update's result once it is durable. After a :class:`UsageError` nothing was
        recorded, and the update can be committed again. Under ``torch.distributed`` every rank gives its
        own model and optimizer; shards are put together on rank 0, one parameter after the other.
        """
        learner, ranks = self._learner, self._ranks
        ready: list[tuple[Any, ...]] = []

        def checked() -> tuple[float, int]:
            norm = self._norm(grad_norm)
            ready.append(self._given(model, optimizer))
            return norm, ready[0][3]

        said = ranks.together(f"commit() of update {self.number}", checked)
        norm = self._one_norm([norm for norm, _ in said])
        self._same("the number of the optimizer's steps", [steps for _, steps in said])
        *given, steps = ready.pop()
        weighed = self._weighed
        assert weighed is not None
        numbers = {
            **weighed.statistics,
            "steps": steps,
            "loss": weighed.value,
            "grad_norm": norm,
            "entropy": self._entropy or 0.0,
            "weigh_seconds": 0.0,
        }
        parameters, first, second = [self._arrays(part) for part in given]
        with ranks.first() as answer:
            if ranks.rank == 0:
                answer.value = learner._native.commit(
                    self.number, parameters, first, second, numbers
                )
        if self._is_others(model):
            learner._is_loaded = False
        result: dict[str, Any] = json.loads(answer.value)
        return result

    def _norm(self, given: Any | None) -> float:
        if self._weighed is None:
            raise UsageError(
                f"update {self.number} was not weighed, and its result records what the rule did: "
                "call weigh(logprobs) first"
            )
        if given is not None and hasattr(given, "full_tensor"):
            given = given.full_tensor()
        norm = self._grad_norm if given is None else float(given)
        if norm is None:
            raise UsageError(
                f"the norm of the gradients of update {self.number} is not known: pass grad_norm, "
                "as torch.nn.utils.clip_grad_norm_ returned it, or call step()"
            )
        return norm

    def _one_norm(self, norms: list[float]) -> float:
        """Norm of the gradients, which all ranks have if they are averaged."""
        if not np.all(np.isfinite(norms)):
            return float(np.sum(norms))
        if max(norms) - min(norms) > 1e-3 * max(norms):
            raise UsageError(
                f"the gradients of update {self.number} have norms {norms} on the ranks, and averaged "
                "ones are equal: nothing was recorded; attach the model as DistributedDataParallel, or "
                "after fully_shard"
            )
        return norms[0]

    def _agree(self) -> None:
        """Compares plan, batch and shares with those of the other ranks."""
        if self._ranks.size == 1:
            return

        def digest() -> str:
            text = f"{__version__} {self._handed['plan']} {self._portion.digest()}"
            return hashlib.sha256(text.encode()).hexdigest()[:16]

        self._same("its plan", self._ranks.together(f"the plan of update {self.number}", digest))

    def _same(self, what: str, values: list[Any]) -> None:
        for rank, value in enumerate(values):
            if value != values[0]:
                raise UsageError(
                    f"ranks disagree about update {self.number}: {what} is {value} on rank {rank}, and "
                    f"{values[0]} on rank 0; nothing was recorded. All ranks run one program, with one "
                    "release of vintage"
                )

    def _is_others(self, model: Any | None) -> bool:
        return model is not None and model is not self._learner._model

    def _given(self, model: Any, optimizer: Any) -> tuple[Any, Any, Any, int]:
        """Parameters and moments by name, of any kind, and the number of steps."""
        if model is None or optimizer is None:
            own_model, own_optimizer = self._attached()
            model = own_model if model is None else model
            optimizer = own_optimizer if optimizer is None else optimizer
        if isinstance(optimizer, tuple):
            first, second, steps = optimizer
        else:
            from .state import moments_of, steps_of
            from .torch import check_optimizer

            module = model if not isinstance(model, Mapping) else self._attached()[0]
            steps = steps_of(module, optimizer)
            check_optimizer(optimizer, self.optimizer_settings)
            first, second = moments_of(module, optimizer)
        parameters: Mapping[str, Any]
        if not isinstance(model, Mapping):
            from .state import named

            parameters = named(model)
        elif "lm_head.weight" not in self.shapes:
            # Tied to the embedding.
            parameters = {k: v for k, v in model.items() if not k.endswith("lm_head.weight")}
        else:
            parameters = model
        return parameters, first, second, int(steps)

    def _arrays(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Float32 arrays on rank 0, which the others help to put together."""
        arrays = {}
        for name, value in sorted(given.items()):
            if not isinstance(value, np.ndarray):
                from .state import host_array, plain_name, put_together

                name, value = plain_name(name), put_together(value)
                if self._ranks.rank > 0:
                    continue
                value = host_array(value)
            shape = self.shapes.get(name)
            flat = shape is not None and value.ndim == 1 and len(value) == np.prod(shape)
            arrays[name] = value.reshape(shape) if flat else np.ascontiguousarray(value)
        return arrays

    def _attached(self) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        learner = self._learner
        if learner._model is None:
            raise UsageError(
                "no model is attached: call learner.attach(model), or pass parameters and moments "
                "to commit()"
            )
        if not learner._is_loaded:
            learner._load(self)
        return learner._model, learner.optimizer

    def _convert(self, values: np.ndarray[Any, Any]) -> Any:
        torch = self._learner._torch
        if torch is None:
            return values
        device = self._learner._device
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        return tensor if device is None else tensor.to(device)

    @cached_property
    def _bounds(self) -> np.ndarray[Any, Any]:
        """First target of each micro-batch, and number of targets."""
        counts = [len(piece.targets) for piece in self.micro_batches]
        return np.concatenate([[0], np.cumsum(counts)])

    def _column(self, name: str) -> Any:
        """Column of all targets of the whole batch."""
        if self._ranks.size == 1:
            return getattr(self.batch, name)
        return self._convert(self._handed[name])

    def _joined(self, values: Any, what: str) -> Any:
        counts = np.diff(self._bounds).tolist()
        if isinstance(values, (list, tuple)):
            found = [tuple(value.shape) for value in values]
            if found != [(count,) for count in counts]:
                raise UsageError(
                    f"{what} of update {self.number} have shapes {found}, and its micro-batches have "
                    f"{counts} targets"
                )
            if len(values) == 1:
                return values[0]
            torch = self._learner._torch
            if torch is not None and not isinstance(values[0], np.ndarray):
                return torch.cat(list(values))
            return np.concatenate(values)
        if tuple(values.shape) != (sum(counts),):
            raise UsageError(
                f"{what} of update {self.number} have shape {list(values.shape)}, and the batch has "
                f"[{sum(counts)}] targets"
            )
        return values


def _kind(values: Any) -> str:
    place = str(getattr(values, "device", "cpu")).split(":")[0]
    return f"{values.dtype} on {place}"


def _check_logprobs(highest: float) -> None:
    # The rounding of a log-softmax may leave a little above 0; NaN is refused by the rule.
    if highest > 1e-2:
        raise UsageError(
            f"a log-prob is {highest}, above 0: pass log-probs of the targets, not logits or losses"
        )
