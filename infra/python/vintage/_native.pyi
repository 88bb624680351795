from os import PathLike
from typing import Any

from numpy.typing import NDArray

_Array = tuple[str, bytearray]

version: str

class Error(Exception): ...
class UsageError(Error): ...
class FencedError(Error): ...

class Learner:
    def __init__(
        self,
        run: str | PathLike[str],
        *,
        name: str | None,
        follow_plans: str | None,
        config: str | PathLike[str] | None,
        settings: list[str],
        libraries: str,
        device: str,
    ) -> None: ...
    def next(self) -> dict[str, Any] | None: ...
    def state(
        self,
    ) -> tuple[dict[str, _Array], dict[str, _Array], dict[str, _Array], int]: ...
    def commit(
        self,
        update: int,
        parameters: dict[str, NDArray[Any]],
        first: dict[str, NDArray[Any]],
        second: dict[str, NDArray[Any]],
        numbers: dict[str, float],
    ) -> str: ...
    def close(self) -> None: ...
    def outcome(self) -> str | None: ...
    def model_config(self) -> str: ...

class Writer:
    def __init__(
        self,
        run: str | PathLike[str],
        *,
        name: str,
        config: str | PathLike[str] | None,
        settings: list[str],
        accept: list[str],
        scores: bool,
    ) -> None: ...
    def join(self) -> None: ...
    def take(self, seconds: float | None) -> Any: ...
    def answer(self, group: str, rows: list[dict[str, Any]]) -> bool: ...
    def give_up(self, group: str, detail: str) -> bool: ...
    def news(self) -> dict[str, Any] | None: ...
    def check(self) -> None: ...
    def stop(self) -> None: ...
    def wait(self) -> None: ...
    def summary(self) -> dict[str, Any] | None: ...
    def weights(self, version: int) -> str: ...

class Reader:
    def __init__(
        self,
        source: str | PathLike[str],
        *,
        live: bool,
        topic: str | None,
        columns: list[str] | None,
        versions: tuple[int, int] | None,
        times_ms: tuple[int, int] | None,
        rewards: tuple[float, float] | None,
        prompts: list[str],
        sample: tuple[float, int] | None,
    ) -> None: ...
    def next(self, rows: int) -> bytearray | None: ...

def uses(run: str | PathLike[str], *, learner: str | None) -> bytearray: ...
def weigh(
    new: NDArray[Any],
    behavior: NDArray[Any],
    advantage: NDArray[Any],
    valid: NDArray[Any],
    *,
    algorithm: dict[str, Any],
    wide: bool,
    proximal: NDArray[Any] | None = None,
) -> dict[str, Any]: ...
