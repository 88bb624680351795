"""The stores that live in Ray: TransferQueue with its simple storage, and a plain queue actor."""

from __future__ import annotations

import os
from typing import Any

# Read at import, here and in the actors: as many threads as cores, and no line for each call.
os.environ["TQ_NUM_THREADS"] = str(min(8, os.cpu_count() or 1))
os.environ.setdefault("TQ_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import numpy as np
import ray
import torch
import transfer_queue as tq
from ray.util.queue import Queue
from rollouts import Group
from tensordict import TensorDict

FIELDS = ["prompts", "responses", "rollout_log_probs", "versions"]


def start() -> str:
    """Starts Ray on this machine; returns its address. Ray listens on every interface that there is."""
    context = ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        namespace="bench",
        object_store_memory=1 << 30,
    )
    return str(context.address_info["address"])


def join(address: str) -> None:
    """Joins a Ray that another process started."""
    ray.init(address=address, namespace="bench", log_to_driver=False, logging_level="error")


def stop() -> None:
    """Ends the Ray of this process, and what lives in it."""
    ray.shutdown()


def process_of(actor: Any) -> int:
    """Process id of an actor."""
    return int(ray.get(actor.__ray_call__.remote(lambda self: os.getpid())))


class TransferQueue:
    """Rows of eight groups in one ``put``, and taken by ``get_meta`` and ``get_data``, as its data loader does."""

    def __init__(self) -> None:
        tq.init()
        self.client = tq.get_client()
        self.partition = "train"

    def processes(self) -> list[int]:
        """Process ids of the storage units."""
        names = [f"TransferQueueStorageUnit#{unit}" for unit in range(2)]
        return [process_of(ray.get_actor(name, namespace="bench")) for name in names]

    def put(self, groups: list[Group]) -> None:
        rows = [len(group.completions) for group in groups]

        def nested(arrays: list[np.ndarray]) -> torch.Tensor:
            return torch.nested.as_nested_tensor([torch.from_numpy(row) for row in arrays], layout=torch.jagged)

        fields = {
            "prompts": torch.from_numpy(np.repeat([group.prompt for group in groups], rows, axis=0)),
            "responses": nested([row for group in groups for row in group.completions]),
            "rollout_log_probs": nested([row for group in groups for row in group.logprobs]),
            "versions": torch.from_numpy(np.repeat([group.version for group in groups], rows)),
        }
        self.client.put(TensorDict(fields, batch_size=sum(rows)), partition_id=self.partition)

    def take(self, rows: int) -> Any:
        """Metadata of rows: they count as consumed from now on."""
        return self.client.get_meta(FIELDS, rows, self.partition, mode="fetch", task_name="train")

    def get(self, rows: int) -> int:
        """Takes rows and reads them; returns how many tokens came."""
        data = self.client.get_data(self.take(rows))
        return int(sum(len(row) for row in data["responses"]))

    def left(self) -> int:
        """Rows that a consumer would be offered."""
        _, consumed = self.client.get_consumption_status("train", self.partition)
        return 0 if consumed is None else int((consumed == 0).sum())

    def renew(self) -> None:
        """Forgets everything, for the next run."""
        self.client.clear_partition(self.partition)


class RayQueue:
    """``ray.util.queue.Queue``: a group is an item."""

    def __init__(self, name: str = "rollouts") -> None:
        self.queue = Queue(actor_options={"name": name, "get_if_exists": True, "num_cpus": 0})

    def processes(self) -> list[int]:
        """Process id of the queue's actor."""
        return [process_of(self.queue.actor)]

    def put(self, groups: list[Group]) -> None:
        self.queue.put_nowait_batch(groups)

    def take(self, groups: int) -> list[Group]:
        return list(self.queue.get_nowait_batch(groups))

    def get(self, groups: int) -> int:
        """Takes groups; returns how many tokens came."""
        return sum(len(row) for group in self.take(groups) for row in group.completions)

    def left(self) -> int:
        """Groups in the queue."""
        return int(self.queue.qsize())

