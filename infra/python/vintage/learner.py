"""Learner of a run: every update is planned before it is handed out, and recorded when committed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _native
from ._native import UsageError
from .arrays import all_taken
from .batch import Batch
from .weighed import Weighed
from .weighing import STATISTICS, weigh as weigh_arrays

if TYPE_CHECKING:
    import torch


class Learner:
    """Trains a run, and computes its updates in this program.

    ``run`` is the run's folder, which is created if it is new. ``settings`` (``{"learner.steps":
    100}``) and ``config`` (a TOML file) are those of ``vintage run`` and ``vintage learn``. With the
    embedded broker, all other roles run in this process; with any other, they are processes of their
    own (``vintage rollout``, ``vintage archive``).

    ``name`` opens a follower of a run that has a lead; ``follow_plans`` takes its batches from the
    plans of another learner. ``device`` is where batches are put, as PyTorch calls it.

    Opening waits until version 0 exists and the newest checkpoint is loaded. Iterating gives one
    :class:`Update` after the other; each must be committed before the next. A program that ends in
    any way and is started again gets the update whose plan had no result first.

    Raises :class:`UsageError` for settings that fit nothing, and :class:`FencedError` if another
    process trains the same policy.
    """

    def __init__(
        self,
        run: str | os.PathLike[str],
        *,
        name: str | None = None,
        follow_plans: str | None = None,
        config: str | os.PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        device: str | None = None,
    ) -> None:
        self.run = os.fspath(run)
        self._device = device
        self._torch = _import_torch()
        self._model: torch.nn.Module | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._own_optimizer = False
        self._is_loaded = False
        if self._torch is None:
            libraries, place = f"numpy {np.__version__}", "cpu"
        else:
            libraries = f"torch {self._torch.__version__}"
            place = _describe(self._torch, device or "cpu")
        self._native = _native.Learner(
            self.run,
            name=name,
            follow_plans=follow_plans,
            config=config,
            settings=[f"{key}={_written(value)}" for key, value in (settings or {}).items()],
            libraries=libraries,
            device=place,
        )

    def __enter__(self) -> Learner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Update]:
        while True:
            handed = self._native.next()
            if handed is None:
                return
            update = Update(self, all_taken(handed))
            if handed["changed"]:
                self._is_loaded = False
            if self._model is not None and not self._is_loaded:
                self._load(update)
            yield update

    @cached_property
    def model_config(self) -> dict[str, Any]:
        """``config.json`` of the run's model."""
        config: dict[str, Any] = json.loads(self._native.model_config())
        return config

    @property
    def summary(self) -> dict[str, Any] | None:
        """What the learner did, once it has ended; ``updates`` and ``finished`` among it."""
        text = self._native.outcome()
        return None if text is None else json.loads(text)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Optimizer of the attached model; from the first update on, if the run's settings make it."""
        if self._optimizer is None:
            raise UsageError("no optimizer yet: attach a model, and ask within an update")
        return self._optimizer

    def build_model(self) -> torch.nn.Module:
        """A decoder in plain PyTorch with the shape of the run's model, on the learner's device.

        Its parameters are loaded with the first update. A model of transformers does as well
        (``AutoModelForCausalLM.from_pretrained`` of ``weights/<policy>/0`` in the run's folder).
        """
        self._need_torch("build_model")
        from .torch import Decoder

        return Decoder(self.model_config).to(self._device or "cpu")

    def attach(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        """Names the model that updates train, and its AdamW; made by the run's settings if not given.

        With the first update, both are loaded with what the run's newest checkpoint holds, and again
        whenever the run takes other weights than this program computed.
        """
        self._need_torch("attach")
        self._model, self._optimizer = model, optimizer
        self._own_optimizer = optimizer is None
        self._is_loaded = False

    def close(self) -> None:
        """Ends the learner, with a checkpoint unless an update is open; that one is run first when
        the run goes on."""
        self._native.close()

    def _need_torch(self, what: str) -> None:
        if self._torch is None:
            raise UsageError(f"{what} needs PyTorch: pip install 'vintage[torch]'")

    def _state(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], int]:
        values, first, second, steps = self._native.state()
        return all_taken(values), all_taken(first), all_taken(second), steps

    def _load(self, update: Update) -> None:
        from .torch import adamw, load_state, named

        model = self._model
        assert model is not None
        shapes = {name: tuple(parameter.shape) for name, parameter in named(model).items()}
        _check_shapes(shapes, update.shapes)
        if self._own_optimizer:
            self._optimizer = adamw(model, update.optimizer_settings)
        load_state(model, self.optimizer, *self._state())
        self._is_loaded = True


class Update:
    """One update: its plan, which is durable, its batch, and what it is committed by.

    The attributes of :class:`Batch` are those of the whole batch; ``micro_batches`` are its pieces as
    the plan cuts them.
    """

    def __init__(self, learner: Learner, handed: Mapping[str, Any]) -> None:
        self._learner = learner
        self._handed = handed
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
        """All rows of the update."""
        arrays = {
            name: values for name, values in self._handed.items() if isinstance(values, np.ndarray)
        }
        del arrays["micro_batches"]
        # Rows of groups that are trained again follow those of new ones.
        planned = self.plan["groups"] + [use["group"] for use in self.plan.get("reused", [])]
        groups = [group["group"] for group in planned]
        return Batch.of(arrays, groups, self._convert)

    @cached_property
    def micro_batches(self) -> list[Batch]:
        """Pieces of the batch that fit ``learner.micro_batch_tokens``, in order."""
        bounds = self._handed["micro_batches"]
        if len(bounds) == 2:
            return [self.batch]
        return [self.batch.rows(int(a), int(b)) for a, b in zip(bounds[:-1], bounds[1:])]

    def padded(self, pad_id: int = 0) -> Any:
        """The whole batch as rectangles: :meth:`Batch.padded`."""
        return self.batch.padded(pad_id)

    def state(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], int]:
        """Parameters, first and second moments (float32 arrays by name, moments flat) before the
        update, and the number of the optimizer's steps. For programs that attach no model."""
        values, first, second, steps = self._learner._state()
        shaped = {name: array.reshape(self.shapes[name]) for name, array in values.items()}
        return shaped, first, second, steps

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
        or a list) is kept for the result's mean.
        """
        whole = self._joined(logprobs, "logprobs")
        batch = self.batch
        algorithm = self.algorithm
        arguments = {
            "rule": algorithm["name"],
            "threshold": algorithm["m2_threshold"],
            "clip": algorithm["clip_eps"],
            "clamp": algorithm["log_ratio_clamp"],
            "proximal": proximal,
        }
        if self._learner._torch is not None and not isinstance(whole, np.ndarray):
            from .torch import weigh

            highest = float(whole.detach().max()) if whole.numel() else 0.0
            _check_logprobs(highest)
            found = weigh(whole, batch.logprobs, batch.advantages, batch.loss_mask, **arguments)
            mask, weights, loss, value = found.mask, found.weights, found.loss, found.value
            statistics = found.statistics
        else:
            columns = [np.asarray(x) for x in (batch.logprobs, batch.advantages, batch.loss_mask)]
            _check_logprobs(float(np.max(whole, initial=0.0)))
            answer = weigh_arrays(whole, *columns, **arguments)
            mask, weights, loss = answer["mask"], answer["weights"], answer["loss"]
            value = float(loss)
            statistics = {name: answer[name] for name in STATISTICS}
        if entropy is not None:
            spread = self._joined(entropy, "entropy")
            trained = spread[batch.loss_mask]
            self._entropy = float(trained.mean()) if len(trained) else 0.0
        counts = [len(piece.targets) for piece in self.micro_batches]
        bounds = np.concatenate([[0], np.cumsum(counts)])
        self._weighed = Weighed(mask, weights, loss, value, statistics, bounds)
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

        model, optimizer = self._attached()
        gradients = [p for p in model.parameters() if p.grad is not None]
        limit = float(self.optimizer_settings["grad_clip"])
        norm = float(torch.nn.utils.clip_grad_norm_(gradients, limit))
        if not np.isfinite(norm):
            optimizer.zero_grad(set_to_none=True)
            raise UsageError(
                f"update {self.number} gave a gradient norm of {norm}: nothing was changed; lower "
                "learner.optimizer.lr, or look at the rewards and log-probs of its groups"
            )
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

        Returns the update's result once it is durable. After an exception nothing was recorded, and
        the update can be committed again.
        """
        if self._weighed is None:
            raise UsageError(
                f"update {self.number} was not weighed, and its result records what the rule did: "
                "call weigh(logprobs) first"
            )
        norm = self._grad_norm if grad_norm is None else float(grad_norm)
        if norm is None:
            raise UsageError(
                f"the norm of the gradients of update {self.number} is not known: pass grad_norm, "
                "as torch.nn.utils.clip_grad_norm_ returned it, or call step()"
            )
        parameters, first, second, steps = self._given(model, optimizer)
        numbers = {
            **self._weighed.statistics,
            "steps": steps,
            "loss": self._weighed.value,
            "grad_norm": norm,
            "entropy": self._entropy or 0.0,
            "weigh_seconds": 0.0,
        }
        learner = self._learner
        text = learner._native.commit(self.number, parameters, first, second, numbers)
        if self._is_others(model):
            learner._is_loaded = False
        result: dict[str, Any] = json.loads(text)
        return result

    def _is_others(self, model: Any | None) -> bool:
        return model is not None and model is not self._learner._model

    def _given(self, model: Any, optimizer: Any) -> tuple[Any, Any, Any, int]:
        if model is None or optimizer is None:
            own_model, own_optimizer = self._attached()
            model = own_model if model is None else model
            optimizer = own_optimizer if optimizer is None else optimizer
        if isinstance(optimizer, tuple):
            first, second, steps = optimizer
            first, second = self._arrays(first), self._arrays(second)
        else:
            from .torch import check_optimizer, moments_of

            module = model if not isinstance(model, Mapping) else self._attached()[0]
            first, second, steps = moments_of(module, optimizer)
            check_optimizer(optimizer, self.optimizer_settings)
        if isinstance(model, Mapping):
            parameters = self._arrays(model)
            if "lm_head.weight" not in self.shapes:
                parameters.pop("lm_head.weight", None)  # tied to the embedding
        else:
            from .torch import host_array, named

            parameters = {name: host_array(value) for name, value in named(model).items()}
        return parameters, first, second, int(steps)

    def _arrays(self, given: Mapping[str, Any]) -> dict[str, Any]:
        arrays = {}
        for name, value in given.items():
            if not isinstance(value, np.ndarray):
                from .torch import host_array, plain_name

                name, value = plain_name(name), host_array(value)
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

    def _joined(self, values: Any, what: str) -> Any:
        counts = [len(piece.targets) for piece in self.micro_batches]
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


def _check_logprobs(highest: float) -> None:
    # The rounding of a log-softmax may leave a little above 0; NaN is refused by the rule.
    if highest > 1e-2:
        raise UsageError(
            f"a log-prob is {highest}, above 0: pass log-probs of the targets, not logits or losses"
        )


def _check_shapes(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    for name in sorted(set(found) | set(wanted)):
        if found.get(name) != wanted.get(name):
            ours, theirs = found.get(name, "nothing"), wanted.get(name, "nothing")
            raise UsageError(
                f"the attached model has {ours} as {name}, and the run's model {theirs}: build it "
                "from the run's config.json (learner.model_config)"
            )


def _import_torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch


def _describe(torch: Any, device: str) -> str:
    kind = torch.device(device)
    if kind.type == "cuda":
        return f"{kind.type} {torch.cuda.get_device_name(kind)}"
    return str(kind.type)


def _written(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return json.dumps(list(value))
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
