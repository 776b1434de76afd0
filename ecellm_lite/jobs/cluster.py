"""Connects to a Ray cluster, counts how many actors fit on its nodes, and defines the actor that answers rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ecellm_lite.answerer import Answerer, KeepsCalibrations, Row
from ecellm_lite.answers.answer import Answer, ModelName
from ecellm_lite.errors import EcellmError, UsageError
from ecellm_lite.models.calibrations import Calibration, CalibrationChoice
from ecellm_lite.pipe.options import request_options
from ecellm_lite.tasks.task import Task

CORES = 4  # cores of an actor, if the nodes have that many

Make = Callable[[], Answerer]


class ClusterActor:
    """A Ray actor: a process on one node of a cluster, with a copy of the model. It answers batches of rows."""

    def __init__(self, make: Make) -> None:
        self._answerer: Answerer | None = None
        self._error = EcellmError("The actor has no model.")
        try:
            self._answerer = make()
        except EcellmError as error:  # facts() returns it: an actor that raises here would die without a clear error
            self._error = error

    def facts(self) -> tuple[ModelName, str, tuple[str, ...], dict[str, str]] | EcellmError:
        """Return the model, its envelope's name, the tasks' names and the adapters.

        If loading failed, return the error.
        """
        if self._answerer is None:
            return self._error
        answerer = self._answerer
        return answerer.model, answerer.envelope.name, tuple(answerer.tasks), dict(answerer.adapters)

    def kept_calibration(self, task: Task, calibration: CalibrationChoice, adapter: str | None) -> Calibration | None:
        """Return the calibration that this node uses for a task, or None."""
        if isinstance(self._answerer, KeepsCalibrations):
            return self._answerer.kept_calibration(task, calibration=calibration, adapter=adapter)
        return None

    def answers(self, rows: Sequence[tuple[Task, Row, Mapping[str, Any]]]) -> list[Answer]:
        """Return the answers to rows, in order.

        `rows`: for each row, its task, the row, and its options in the format of the pipe's protocol (docs/pipe.md).
        """
        assert self._answerer
        submit = self._answerer.submit
        futures = [submit(task, row, **request_options(task, options)) for task, row, options in rows]
        return [future.result() for future in futures]


def node_share(nodes: Sequence[Mapping[str, Any]], threads: int | None) -> dict[str, float]:
    """Return the resources that each actor (a process with a model) reserves: cores, and one GPU if any node has a GPU.

    `threads`: the number of cores of an actor. By default, CORES, or fewer if no node has that many.

    The result's keys are Ray's names of the resources.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    most = max((int(each.get("CPU", 0)) for each in resources), default=0)
    gpus = any(each.get("GPU") for each in resources)
    return {"num_cpus": threads or max(1, min(CORES, most)), **({"num_gpus": 1} if gpus else {})}


def fitting_actors(nodes: Sequence[Mapping[str, Any]], share: Mapping[str, float]) -> int:
    """Return the number of actors that fit on the living nodes, if each actor reserves the resources `share`."""
    count = 0
    for node in nodes:
        if node["Alive"]:
            has = node["Resources"]
            rooms = [has.get("CPU", 0) // share["num_cpus"]]
            if "num_gpus" in share:
                rooms.append(has.get("GPU", 0))
            count += int(min(rooms))
    return count


def connect(address: str | None) -> tuple[Any, bool]:
    """Connect to a Ray cluster. Return the module ray, and whether this call made the connection.

    Raises UsageError if ray is not installed, or if there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise Ray reports its use over the network
    try:
        import ray.exceptions  # a folder of this name, Ray's own in /tmp say, has no such module
    except ImportError:
        raise UsageError("A cluster needs ray", step="run `pip install 'ecellm-lite[ray]'`") from None
    if ray.is_initialized():
        return ray, False
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"There is no cluster at {address} ({brief(error)})", step="check its address", settings=("address",)
        ) from None
    return ray, True


def brief(error: BaseException) -> str:
    """Return an error's message as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
