"""A batch on a Ray cluster: two nodes, one of which is lost while it works."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import vsr
from tests.batch.test_runs import LISTS, WISHES, results, vsr_batch
from vsr.batch.events import Event
from vsr.batch.opening import open_manifest, read_manifest
from vsr.batch.policy import Policy
from vsr.batch.processes import Processes
from vsr.batch.ray_cluster import Wants
from vsr.batch.ray_tasks import RayTasks
from vsr.batch.running import run_batch
from vsr.batch.settings import plan, stored_settings
from vsr.config import EngineConfig, UpscaleConfig
from vsr.errors import ConfigError, DecodeError, DeviceError, OpenError
from vsr.pipeline.journal import Journal
from vsr.pipeline.segment import SegmentResult

pytestmark = pytest.mark.cluster
MakeClip = Callable[..., Path]
CONFIG = UpscaleConfig(
    model="bicubic-x2",
    scale=2,
    device="cpu",
    encoder_preset="ultrafast",
    # Children of a task take seconds to start, and change no byte.
    engine=EngineConfig(isolate=False, segment_frames=12),
)
PATIENCE_S = 180.0
WANTS = Wants(cpus=1, device="cpu")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that makes no clips, and two nodes that make one each."""
    ray: Any = pytest.importorskip("ray", reason="Ray is not installed")
    cluster_utils: Any = import_module("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        root = os.fspath(Path(vsr.__file__).parent.parent)
        patch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Of a node, whose start takes longer than that on a busy machine with a cold disk.
        patch.setenv("RAY_raylet_start_wait_time_s", "120")
        made = cluster_utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        try:
            ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


@pytest.fixture(scope="module")
def nodes(cluster: Any) -> list[Any]:
    found = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    return found


@pytest.fixture(scope="module")
def tree(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("archive") / "src"
    for number in range(4):
        path = source / f"{number % 2}" / f"clip {number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        make_clip(path, frames=72 + 2 * number)
    make_clip(source / "cut.mp4", truncate=0.5)
    return source


def run_on(executor: Any, tree: Path, out: Path, on_event: Any = None) -> None:
    with open_manifest(out) as manifest:
        plan(manifest, tree, CONFIG, None)
        settings = stored_settings(manifest)
        assert settings is not None
        policy = Policy(min_free_bytes=0)
        end_s = time.monotonic() + PATIENCE_S
        run_batch(
            manifest,
            settings,
            policy,
            executor,
            on_event=on_event,
            should_stop=lambda: time.monotonic() > end_s,
        )


def echo(job: Any, number: int) -> int:
    job.say("half", number, now=True)
    return 2 * number


def refuse(_job: Any) -> None:
    raise DecodeError("no picture")


def stumble(_job: Any) -> None:
    raise ZeroDivisionError("oops")


def crash(_job: Any) -> None:
    os._exit(3)


@pytest.mark.usefixtures("nodes")
def test_what_tasks_tell(tmp_path: Path) -> None:
    (tmp_path / ".vsr-batch").mkdir()
    with RayTasks(WANTS, tmp_path, tmp_path) as tasks:
        assert tasks.count == 2
        tasks.begin(7, echo, 4)
        assert (tasks.num_busy, tasks.num_free) == (1, 1)
        said = []
        while tasks.num_busy:
            found = tasks.wait()
            said += [] if found is None else [found]
        assert [(one.key, one.kind, one.value) for one in said] == [
            (7, "progress", ("half", 4)),
            (7, "done", 8),
        ]
        assert isinstance(tasks.ask(refuse).error, DecodeError)
        assert "ZeroDivisionError: oops" in tasks.ask(stumble).detail
        assert tasks.ask(crash).may_pass
    assert list((tmp_path / ".vsr-batch").iterdir()) == []


@pytest.mark.usefixtures("nodes")
def test_folders_that_are_not_shared_stop_the_run(tmp_path: Path) -> None:
    (tmp_path / ".vsr-batch").mkdir()
    with (
        pytest.raises(OpenError, match=r"does not see .*/elsewhere"),
        RayTasks(WANTS, tmp_path / "elsewhere", tmp_path) as tasks,
    ):
        tasks.ask(echo, 1)


def test_a_gpu_is_chosen_by_ray(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="cuda:1"),
        RayTasks(Wants(device="cuda:1"), tmp_path, tmp_path),
    ):
        pass


def test_a_cluster_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray: Any = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(DeviceError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        RayTasks(Wants(address="127.0.0.1:1"), tmp_path, tmp_path).__enter__()


@pytest.mark.usefixtures("nodes")
def test_a_signal_stops_in_order(cluster: Any, tree: Path, tmp_path: Path) -> None:
    """Ray takes SIGTERM for itself, and would abort."""
    out = tmp_path / "out"
    where = ("--executor", "ray", "--address", cluster.address, "--cpus", "1")
    with vsr_batch("run", tree, out, *WISHES, *where, "--events") as process:
        assert process.stdout is not None
        _ = next(line for line in process.stdout if json.loads(line)["event"] == "progress")
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert stderr.strip().endswith("the same command goes on with the rest")
    with read_manifest(out) as manifest:
        assert manifest.clips("running") == []
        assert len(manifest.clips("waiting")) >= 1


def test_a_lost_node(
    cluster: Any, nodes: list[Any], tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two nodes is killed while both make segments of one film."""
    calm, out = tmp_path / "calm", tmp_path / "out"
    run_on(Processes(1), tree, calm)
    entered: Counter[tuple[str, int]] = Counter()
    enter = Journal.add

    def add(journal: Journal, result: SegmentResult) -> SegmentResult:
        entered[journal.folder.name, result.index] += 1
        return enter(journal, result)

    monkeypatch.setattr(Journal, "add", add)

    def lose(event: Event) -> None:
        if len(entered) == 4 and len(nodes) == 2:
            cluster.remove_node(nodes.pop(), allow_graceful=False)

    run_on(RayTasks(WANTS, tree, out), tree, out, lose)
    assert len(nodes) == 1, "no node was lost"
    # The journals were written here alone, and each segment was entered once.
    assert set(entered.values()) == {1}
    sidecars = [json.loads((out / f"{name}.json").read_bytes()) for name in results(out)]
    assert len(entered) == sum(sidecar["segments"] for sidecar in sidecars) > 20
    assert len(results(out)) == 4
    assert results(out) == results(calm)
    for name in LISTS:
        assert (out / name).read_bytes() == (calm / name).read_bytes()
    with read_manifest(out) as manifest:
        assert [clip.path for clip in manifest.clips("quarantined")] == ["cut.mp4"]
        for clip in manifest.clips("done"):
            states = [state for _, state, _ in manifest.history(clip.id)]
            assert states == ["waiting", "running", "done"], clip.path
    assert not list(out.rglob("*.vsr-work"))
