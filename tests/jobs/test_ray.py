"""Tests that a job on a Ray cluster writes the same rows as a job on one machine, even if a node dies."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.cluster_utils", reason="a cluster needs the extra ray")

from ecellm_lite import TASKS, InputError, ModelError, Runtime, UsageError, load_task
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.jobs.job import open_job
from ecellm_lite.jobs.job_row import JobStep
from ecellm_lite.jobs.ray_cluster import RayRuntime
from tests.jobs.slow_job import Slow

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]
TASK = TASKS["sentiment_analysis"]


class Poisonable(FakeBackend):
    def decode(self, chunks: Sequence[Any]) -> list[Any]:
        if b"poison" in b" ".join(self.vocabulary.detokenize(chunk.tokens) for chunk in chunks):
            os._exit(1)
        return super().decode(chunks)


def fake() -> Runtime:
    return Runtime.over(FakeBackend(), deterministic=True)


def slow() -> Runtime:
    return Runtime.over(Slow(), deterministic=True)


def poisonable() -> Runtime:
    return Runtime.over(Poisonable())


def missing() -> Runtime:
    raise ModelError("There is no model there", step="take another")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ |= {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        cluster.wait_for_nodes()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        os.environ.clear()
        os.environ |= before


def write_rows(path: Path, count: int) -> Path:
    lines = [{"id": number, "review": f"review number {number}"} for number in range(count)]
    lines[7] = {"id": 7}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def whole(rows: Path, output: Path) -> bytes:
    """Run the job on one machine, without a cluster, and return its output."""
    with open_job(rows, output, TASK) as job, fake() as runtime:
        job.run(runtime)
    return output.read_bytes()


@pytest.mark.usefixtures("cluster")
def test_a_cluster_writes_what_one_machine_writes(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 500)
    with open_job(rows, tmp_path / "out.jsonl", TASK) as job, RayRuntime(make=fake) as runtime:
        assert (runtime.model, runtime.tasks) == (fake().model, fake().tasks)
        assert runtime.kept_calibration(TASK) is None
        tally = job.run(runtime)
    assert (tally.rows, tally.failed) == (500, 1)
    assert (tmp_path / "out.jsonl").read_bytes() == whole(rows, tmp_path / "whole.jsonl")


@pytest.mark.usefixtures("cluster")
def test_a_custom_task_is_sent_to_the_cluster(tmp_path: Path) -> None:
    path = tmp_path / "desk.toml"
    path.write_text(
        'name = "desk"\nsummary = "A test."\ninstruction = "Choose."\n[[fields]]\nname = "review"\n'
        '[answer]\ntype = "choice"\nchoices = [{ value = "billing" }, { value = "delivery" }]\n'
    )
    task = load_task(path)
    path.unlink()  # the nodes have no such file
    rows = [{"review": f"row {number}"} for number in range(50)]
    with RayRuntime(make=fake) as runtime, fake() as here:
        answers = list(runtime.answers(task, rows))
        with pytest.raises(InputError):
            runtime.answer(task, {})
        unknown: Any = {"min_probabilty": 0.99}
        with pytest.raises(TypeError, match="'min_probabilty'"):
            runtime.answer(task, rows[0], **unknown)
        with pytest.raises(UsageError):
            runtime.submit("nonsense", {})
        assert [answer.text for answer in answers] == [answer.text for answer in here.answers(task, rows)]


@pytest.mark.usefixtures("cluster")
def test_a_row_that_kills_actors_fails_alone() -> None:
    rows = [{"id": number, "review": "poison" if number == 30 else f"row {number}"} for number in range(60)]
    with RayRuntime(make=poisonable) as runtime:
        answers = list(runtime.answers(TASK, rows))
    assert [answer.id for answer in answers] == list(range(60))
    assert [answer.id for answer in answers if answer.error] == [30]
    assert answers[30].error is not None
    assert answers[30].error.code == "crashed"


@pytest.mark.usefixtures("cluster")
def test_a_missing_model_is_one_error() -> None:
    with pytest.raises(ModelError):
        RayRuntime(make=missing)
    with pytest.raises(UsageError) as error:
        RayRuntime(make=fake, threads=64)
    assert error.value.settings == ("threads",)


def test_a_dying_node_loses_and_repeats_no_row(cluster: Any, tmp_path: Path) -> None:
    """This must be the last test that uses the cluster, because it kills one of the nodes."""
    rows = write_rows(tmp_path / "rows.jsonl", 600)
    nodes = list(cluster.worker_nodes)
    steps: list[int] = []

    def kill(step: JobStep) -> None:
        steps.append(step.number)
        if len(steps) == 50:
            cluster.remove_node(nodes[0], allow_graceful=False)

    with open_job(rows, tmp_path / "out.jsonl", TASK) as job, RayRuntime(make=slow) as runtime:
        tally = job.run(runtime, progress=kill)
    assert (tally.rows, tally.failed) == (600, 1)
    assert steps == list(range(1, 601))
    assert (tmp_path / "out.jsonl").read_bytes() == whole(rows, tmp_path / "whole.jsonl")
