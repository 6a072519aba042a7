"""Films whose segments are made by several: handed out, entered once, and joined to the same bytes.

Ray itself is not needed here; `test_ray_tasks` has a cluster of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.batch.conftest import Job, ProcessesHere
from tests.batch.stub_ray import RayError, Started, StubRay, stand_in
from tests.batch.test_runs import LISTS, results
from vsr.batch import parting
from vsr.batch.opening import open_manifest, read_manifest
from vsr.batch.parting import Film, Parted, make_or_part, make_stretch
from vsr.batch.policy import Policy
from vsr.batch.ray_cluster import Wants
from vsr.batch.ray_tasks import RayTasks
from vsr.batch.ray_worker import work
from vsr.batch.running import run_batch
from vsr.batch.settings import plan, stored_settings
from vsr.batch.work import make
from vsr.config import EngineConfig, UpscaleConfig
from vsr.errors import DecodeError, OtherDeviceError, OutputHeldError
from vsr.pipeline.journal import Journal
from vsr.pipeline.result import UpscaleResult
from vsr.pipeline.worker import confession
from vsr.pipeline.workers import LocalWorkers

MakeClip = Callable[..., Path]
CONFIG = UpscaleConfig(
    model="bicubic-x2",
    scale=2,
    device="cpu",
    encoder_preset="ultrafast",
    engine=EngineConfig(isolate=False, segment_frames=4),
)
pytestmark = pytest.mark.usefixtures("parts_here")


@pytest.fixture
def parts_here(work_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "open_workers", lambda _: LocalWorkers())


@pytest.fixture(scope="module")
def tree(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of six, one and five segments, and one that is broken."""
    source = tmp_path_factory.mktemp("parting") / "src"
    (source / "a").mkdir(parents=True)
    make_clip(source / "a" / "long.mp4", frames=24)
    make_clip(source / "a" / "short.mp4", frames=4)
    make_clip(source / "b.mkv", frames=20)
    make_clip(source / "cut.mp4", truncate=0.5)
    return source


def parted(tree: Path, output: Path) -> Parted:
    job: Any = Job()
    found = make_or_part(job, tree / "a" / "long.mp4", output, None, CONFIG, 0)
    assert isinstance(found, Parted)
    return found


def stretch(film: Film, indices: tuple[int, ...]) -> list[Any]:
    job: Any = Job()
    one = film.parted
    return make_stretch(job, one.plan, indices, one.output, one.config, film.token)


def test_a_short_film_is_made_at_once(tree: Path, tmp_path: Path) -> None:
    job: Any = Job()
    found = make_or_part(job, tree / "a" / "short.mp4", tmp_path / "x.mkv", None, CONFIG, 0)
    assert isinstance(found, UpscaleResult)


def test_stretches_grow_shorter(tree: Path, tmp_path: Path) -> None:
    film = Film(parted(tree, tmp_path / "x.mkv"))
    assert film.num_waiting == 6
    assert [film.take(1), film.take(1), film.take(1), film.take(1)] == [(0, 1, 2), (3,), (4,), (5,)]
    film.give_back((0, 1, 2))
    assert (film.take(2), film.num_lost) == ((0,), 1)
    film.close()


def test_what_is_entered_is_not_given_back(tree: Path, tmp_path: Path) -> None:
    film = Film(parted(tree, tmp_path / "x.mkv"))
    indices = film.take(1)
    first, *_ = stretch(film, indices[:2])
    film.hear(first.index, 4, first)
    film.give_back(indices)
    assert (film.num_frames, film.num_waiting) == (4, 5)
    film.close()
    with Journal(tmp_path / "x.mkv") as journal:
        assert [path.name for path in journal.folder.glob("segment-*")] == [
            "segment-000000.json",
            "segment-000000.mkv",
        ]


def test_who_parts_a_film_holds_it(tree: Path, tmp_path: Path) -> None:
    one = parted(tree, tmp_path / "x.mkv")
    film = Film(one)
    with pytest.raises(OutputHeldError):
        Film(one)
    film.close()


def test_the_last_worker_joins(tree: Path, tmp_path: Path) -> None:
    """Segments of several workers, one of which came twice, make the film of one."""
    job: Any = Job()
    source = tree / "a" / "long.mp4"
    whole = make(job, source, tmp_path / "whole.mkv", None, CONFIG, 0)
    film = Film(parted(tree, tmp_path / "parts.mkv"))
    for indices in ((3, 4, 5), (0, 1), (1, 2)):
        for result in stretch(film, indices):
            film.hear(result.index, result.num_frames, result)
    assert film.is_made
    film.close()
    told = film.told(make(job, *film.parted.arguments))
    assert told.digests["result"] == whole.digests["result"]
    assert (told.segments, told.resumed_segments) == (6, 0)
    assert sorted(path.name for path in tmp_path.iterdir() if "work" in path.name) == []


def run_on(executor: Any, tree: Path, out: Path) -> None:
    with open_manifest(out) as manifest:
        plan(manifest, tree, CONFIG, None)
        settings = stored_settings(manifest)
        assert settings is not None
        run_batch(manifest, settings, Policy(min_free_bytes=0), executor)


def made_by(ray: StubRay) -> list[tuple[int, ...]]:
    """The stretches that were started."""
    return [task.arguments[1] for task in ray.started if task.function is make_stretch]


@pytest.fixture
def calm(tree: Path, tmp_path: Path) -> Path:
    run_on(ProcessesHere(1), tree, tmp_path / "calm")
    return tmp_path / "calm"


def on_ray(
    tree: Path, out: Path, patch: pytest.MonkeyPatch, outcome: Callable[[Started], Any]
) -> StubRay:
    ray = StubRay(outcome=outcome)
    stand_in(patch, ray)
    run_on(RayTasks(Wants(cpus=1, device="cpu"), tree, out), tree, out)
    return ray


def assert_same(out: Path, calm: Path) -> None:
    assert len(results(out)) == 3
    assert results(out) == results(calm)
    for name in LISTS:
        assert (out / name).read_bytes() == (calm / name).read_bytes()
    assert not list(out.rglob("*.vsr-work"))
    with read_manifest(out) as manifest:
        assert [clip.path for clip in manifest.clips("quarantined")] == ["cut.mp4"]
        for clip in manifest.clips("done"):
            states = [state for _, state, _ in manifest.history(clip.id)]
            assert states == ["waiting", "running", "done"], clip.path


def test_segments_are_tasks(
    tree: Path, calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    ray = on_ray(tree, out, monkeypatch, lambda _: None)
    assert_same(out, calm)
    assert sorted(index for indices in made_by(ray) for index in indices) == sorted(
        [*range(6), *range(5)]
    )
    assert ray.most_in_flight == 2, "no more than the cluster has room for"


def test_a_lost_stretch_costs_what_was_open(
    tree: Path, calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node is lost that has made the first of two segments."""
    losses: list[int] = []

    def outcome(task: Started) -> None:
        if task.function is make_stretch and not losses:
            plan_, indices, *rest = task.arguments
            losses.append(indices[0])
            work(task.seat, task.key, make_stretch, plan_, indices[:1], *rest)
            raise RayError("the node is gone")

    monkeypatch.setattr(parting.Film, "take", lambda film, _: take_two(film))
    out = tmp_path / "out"
    ray = on_ray(tree, out, monkeypatch, outcome)
    assert_same(out, calm)
    assert losses == [0]
    # The film of six: what was told before the loss is not made again.
    assert made_by(ray)[:4] == [(0, 1), (2, 3), (1, 4), (5,)]


def take_two(film: Film) -> tuple[int, ...]:
    return tuple(film._waiting.popleft() for _ in range(min(2, film.num_waiting)))


def test_a_stretch_that_is_always_lost_fails_the_film(
    tree: Path, calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next try goes on from what was made, here with too little left to part."""

    def outcome(task: Started) -> None:
        if task.function is make_stretch and 3 in task.arguments[1]:
            raise RayError("the node is gone")

    out = tmp_path / "out"
    ray = on_ray(tree, out, monkeypatch, outcome)
    assert results(out) == results(calm)
    # Of each film, five times without anything else being made in between.
    assert sum(3 in indices for indices in made_by(ray)) >= 2 * 5
    with read_manifest(out) as manifest:
        steps = [manifest.history(clip.id) for clip in manifest.clips("done")]
    assert [state for _, state, _ in steps[0]] == [
        "waiting",
        "running",
        "failed",
        "running",
        "done",
    ]


def test_a_film_that_cannot_be_made_leaves_nothing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(task: Started) -> Any:
        is_part = task.function is make_stretch
        return confession(DecodeError("no picture")) if is_part else None

    out = tmp_path / "out"
    on_ray(tree, out, monkeypatch, outcome)
    with read_manifest(out) as manifest:
        errors = {clip.path: clip.error for clip in manifest.clips("quarantined")}
    assert errors.pop("cut.mp4")
    assert errors == {"a/long.mp4": "no picture", "b.mkv": "no picture"}
    assert not list(out.rglob("*.vsr-work"))


def test_another_device_leaves_a_stretch_to_the_node_of_the_plan(
    tree: Path, calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(task: Started) -> Any:
        is_there = task.options["scheduling_strategy"] == ("here", True)
        if task.function is make_stretch and not is_there:
            return confession(OtherDeviceError("planned for avx512"))
        return None

    out = tmp_path / "out"
    on_ray(tree, out, monkeypatch, outcome)
    assert_same(out, calm)
