"""Learner of a run: every update is planned before it is handed out, and recorded when committed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _native
from ._native import UsageError
from .arrays import all_taken
from .ranks import Alone, ranks_of
from .update import Update

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

    from .state import Entry


class Learner:
    """Trains a run, and computes its updates in this program.

    ``run`` is the run's folder, which is created if it is new. ``settings`` (``{"learner.steps":
    100}``) and ``config`` (a TOML file) are those of ``vintage run`` and ``vintage learn``. With the
    embedded broker, all other roles run in this process; with any other, they are processes of their
    own (``vintage rollout``, ``vintage archive``).

    ``name`` opens a follower of a run that has a lead; ``follow_plans`` takes its batches from the
    plans of another learner. ``device`` is where batches are put, as PyTorch calls it.

    Under ``torch.distributed`` all ranks of ``process_group`` (the default group, if it is initialised)
    open a learner and make the same calls in the same order. Rank 0 alone opens the run and records; every
    rank is handed its share of the same updates, and what one raises is raised on all.

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
        process_group: ProcessGroup | None = None,
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
        written = [f"{key}={_written(value)}" for key, value in (settings or {}).items()]
        self._opened: _native.Learner | None = None
        self._config: str | None = None
        self._outcome: str | None = None
        self._ranks: Alone = ranks_of(self._torch, process_group)
        if self._ranks.size > 1:
            place = f"{place}, {self._ranks.size} ranks"
        try:
            with self._ranks.first() as answer:
                if self._ranks.rank == 0:
                    self._opened = _native.Learner(
                        self.run,
                        name=name,
                        follow_plans=follow_plans,
                        config=config,
                        settings=written,
                        libraries=libraries,
                        device=place,
                    )
                    if self._ranks.size > 1:
                        answer.value = self._opened.model_config()
            self._config = answer.value
        except BaseException:
            self.close()
            raise

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
            self._ranks.together("the next update", lambda: None)
            with self._ranks.first() as answer:
                if self._ranks.rank == 0:
                    found = self._native.next()
                    outcome = self._native.outcome() if found is None else None
                    answer.value = (found and all_taken(found), outcome)
            handed, self._outcome = answer.value
            if handed is None:
                return
            update = Update(self, handed)
            update._agree()
            if handed["changed"]:
                self._is_loaded = False
            if self._model is not None and not self._is_loaded:
                self._load(update)
            yield update

    @property
    def model_config(self) -> dict[str, Any]:
        """``config.json`` of the run's model."""
        if self._config is None:
            self._config = self._native.model_config()
        config: dict[str, Any] = json.loads(self._config)
        return config

    @property
    def summary(self) -> dict[str, Any] | None:
        """What the learner did, once it has ended; ``updates`` and ``finished`` among it. Where a program
        left its loop before the last update, rank 0 alone has it."""
        text = self._outcome if self._opened is None else self._opened.outcome()
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
        the run goes on. Waits for no other rank."""
        try:
            if self._opened is not None:
                self._opened.close()
        finally:
            self._ranks.close()

    def _need_torch(self, what: str) -> None:
        if self._torch is None:
            raise UsageError(f"{what} needs PyTorch: pip install 'vintage[torch]'")

    @property
    def _native(self) -> _native.Learner:
        """Learner in Rust, which rank 0 has."""
        assert self._opened is not None
        return self._opened

    def _state(
        self, shapes: Mapping[str, tuple[int, ...]], device: Any
    ) -> tuple[Iterator[Entry], int]:
        """Parameters and moments of rank 0, on all ranks one after the other, and the number of steps."""
        arrays: list[dict[str, Any]] = []
        with self._ranks.first() as answer:
            if self._ranks.rank == 0:
                *found, steps = self._native.state()
                arrays = [all_taken(part) for part in found]
                answer.value = steps, set(arrays[1])
        steps, with_moments = answer.value

        def entries() -> Iterator[Entry]:
            for name, shape in sorted(shapes.items()):
                parts: list[Any] = [None, None, None]
                for number in range(3 if name in with_moments else 1):
                    values = arrays[number].pop(name) if arrays else None
                    count = int(np.prod(shape))
                    parts[number] = self._ranks.spread(values, count, device)
                yield name, parts[0], parts[1], parts[2]

        return entries(), steps

    def _load(self, update: Update) -> None:
        from .state import load_state, named
        from .torch import adamw

        model = self._model
        assert model is not None

        def fits() -> None:
            shapes = {name: tuple(parameter.shape) for name, parameter in named(model).items()}
            _check_shapes(shapes, update.shapes)

        self._ranks.together(f"loading the model before update {update.number}", fits)
        if self._own_optimizer:
            self._optimizer = adamw(model, update.optimizer_settings)
        load_state(model, self.optimizer, *self._state(update.shapes, self._device or "cpu"))
        self._is_loaded = True


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
