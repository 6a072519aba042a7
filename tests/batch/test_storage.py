"""Sources and results in object storage: fetched whole, sent and read back."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.batch.test_runs import results
from vsr.batch import storage
from vsr.batch.opening import read_manifest
from vsr.batch.storage import Bucket, BucketTree, at_hand, fetch, is_url, send
from vsr.batch.walk import Filters
from vsr.cli.batch_asked import home_of
from vsr.cli.main import run
from vsr.errors import ConfigError, OpenError, StorageError
from vsr.pipeline.output import sha256_of

fsspec: Any = pytest.importorskip("fsspec", reason="fsspec is not installed")
MakeClip = Callable[..., Path]
WISHES = (
    *("--model", "bicubic-x2", "--device", "cpu", "--encoder-preset", "ultrafast"),
    *("--set", "engine.isolate=false"),
)
NAMES = ("a/x.mp4", "b c/it's #1 100%.mp4", "b c/x.avi")
S3 = {"endpoint_url": "", "key": "nobody", "secret": "nothing"}


@pytest.fixture
def memory() -> Iterator[Any]:
    """A store that is gone after the test."""
    found = fsspec.filesystem("memory")
    found.store.clear()
    found.pseudo_dirs[:] = [""]
    yield found
    found.store.clear()


@pytest.fixture(scope="module")
def tree(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("storage") / "src"
    for number, name in enumerate(NAMES):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        codec = "mpeg4" if path.suffix == ".avi" else "libx264"
        make_clip(path, frames=4 + number, codec=codec)
    (source / "a" / "broken.mp4").write_bytes(b"nonsense" * 100)
    (source / ".hidden").mkdir()
    (source / ".hidden" / "x.mp4").write_bytes(b"x")
    (source / "notes.txt").write_text("no film")
    return source


@pytest.fixture
def stored(tree: Path, memory: Any) -> str:
    """The same tree in a store."""
    memory.put(f"{tree}/", "/bucket/in/", recursive=True)
    return "memory://bucket/in"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What speaks to a server of S3 on this machine, with a bucket."""
    moto: Any = pytest.importorskip("moto.server", reason="moto is not installed")
    s3fs: Any = pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setitem(fsspec.config.conf, "s3", {**S3, "endpoint_url": f"http://{host}:{port}"})
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        found = fsspec.filesystem("s3")
        found.mkdir("bucket")
        yield found
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def served(tree: Path) -> Iterator[str]:
    """The same tree behind a web server, its folders as pages of links."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing to say."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tree)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VSR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.usefixtures("work_here")
def test_from_store_to_store(
    tree: Path, stored: str, memory: Any, home: Path, tmp_path: Path
) -> None:
    calm, out = tmp_path / "calm", "memory://bucket/out"
    assert run(["batch", "-q", "run", str(tree), str(calm), *WISHES]) == 7
    assert run(["batch", "-q", "run", stored, out, *WISHES]) == 7
    here = home_of(out)
    assert here.is_relative_to(home)
    # The films are in the store, and nothing but the manifest and what belongs to it here.
    assert results(here) == {}
    assert not list((here / ".vsr-batch").glob("stage/*"))
    for name, digest in results(calm).items():
        copy = tmp_path / "copy"
        memory.get_file(f"/bucket/out/{name}", str(copy))
        assert sha256_of(copy) == digest
        sidecar = json.loads(memory.cat(f"/bucket/out/{name}.json"))
        assert sidecar["digests"]["result"] == digest
    for name in ("manifest-sha256.txt", "sources-sha256.txt"):
        assert memory.cat(f"/bucket/out/{name}") == (calm / name).read_bytes()
    assert run(["batch", "status", out]) == 0
    # Nothing has changed, and nothing is fetched or sent.
    before = {key: file.modified for key, file in memory.store.items()}
    assert run(["batch", "-q", "run", stored, out, *WISHES]) == 7
    assert run(["batch", "-q", "plan", stored, out]) == 0
    with read_manifest(here) as manifest:
        assert manifest.counts()["done"] == 3
    lists = {f"/bucket/out/{name}" for name in ("manifest-sha256.txt", "sources-sha256.txt")}
    assert {k: f.modified for k, f in memory.store.items() if k not in lists} == {
        k: date for k, date in before.items() if k not in lists
    }


@pytest.mark.usefixtures("work_here", "home")
def test_from_s3_to_s3(tree: Path, s3: Any, tmp_path: Path) -> None:
    calm, out = tmp_path / "calm", "s3://bucket/out"
    for path in (path for path in tree.rglob("*") if path.is_file()):
        s3.put_file(str(path), f"bucket/in/{path.relative_to(tree)}")
    odd = "a/+ü&?x=1.mp4"
    s3.put_file(str(tree / NAMES[0]), f"bucket/in/{odd}")
    assert run(["batch", "-q", "run", str(tree), str(calm), *WISHES]) == 7
    assert run(["batch", "-q", "run", "s3://bucket/in", out, *WISHES]) == 7
    wanted = {**results(calm), odd: results(calm)[NAMES[0]]}
    for name, digest in wanted.items():
        assert hashlib.sha256(s3.cat(f"bucket/out/{name}")).hexdigest() == digest
    with read_manifest(home_of(out)) as manifest:
        assert {clip.path for clip in manifest.clips("done")} == {*NAMES, odd}
        (broken,) = manifest.clips("quarantined")
    assert str(broken.error).startswith("s3://bucket/in/a/broken.mp4 ")
    # A changed file is found by its tag or date, and made again over its own result.
    s3.put_file(str(tree / NAMES[1]), f"bucket/in/{NAMES[0]}")
    assert run(["batch", "-q", "plan", "s3://bucket/in", out, "--no-estimate"]) == 0
    assert run(["batch", "-q", "run", "s3://bucket/in", out]) == 7
    assert hashlib.sha256(s3.cat(f"bucket/out/{NAMES[0]}")).hexdigest() == wanted[NAMES[1]]


@pytest.mark.usefixtures("work_here", "home")
def test_files_of_others_in_a_store_stay(stored: str, memory: Any) -> None:
    out = "memory://bucket/out"
    memory.pipe("/bucket/out/a/x.mp4", b"mine")
    assert run(["batch", "-q", "run", stored, out, *WISHES]) == 7
    assert memory.cat("/bucket/out/a/x.mp4") == b"mine"
    with read_manifest(home_of(out)) as manifest:
        errors = {clip.path: clip.error for clip in manifest.clips("quarantined")}
    assert "exists already" in str(errors["a/x.mp4"])
    assert run(["batch", "retry", out]) == 0
    assert run(["batch", "-q", "run", stored, out, "--overwrite"]) == 7
    assert memory.cat("/bucket/out/a/x.mp4") != b"mine"


@pytest.mark.usefixtures("work_here")
def test_from_the_web(tree: Path, served: str, tmp_path: Path) -> None:
    calm, out = tmp_path / "calm", tmp_path / "out"
    assert run(["batch", "-q", "run", str(tree), str(calm), *WISHES]) == 7
    assert run(["batch", "-q", "run", served, str(out), *WISHES]) == 7
    assert results(out) == results(calm)
    assert not list((out / ".vsr-batch").glob("stage/*"))
    with read_manifest(out) as manifest:
        assert {clip.path for clip in manifest.clips("done")} == set(NAMES)
        assert {clip.path for clip in manifest.clips()} == {*NAMES, "a/broken.mp4"}
        (broken,) = manifest.clips("quarantined")
    assert str(broken.error).startswith(f"{served}/a/broken.mp4 ")


def test_a_store_is_listed_like_a_folder(stored: str, tmp_path: Path) -> None:
    def listed(**wishes: Any) -> list[str]:
        bucket = Bucket.at(stored, tmp_path)
        return [found.path for found in BucketTree(bucket, Filters(**wishes)).walk()]

    assert listed() == ["a/broken.mp4", *NAMES]
    assert listed(exclude=("a",)) == list(NAMES[1:])
    assert listed(include=("*.txt",)) == ["notes.txt"]
    assert listed(max_bytes=800) == ["a/broken.mp4"]
    with pytest.raises(OpenError, match="does not exist"):
        list(BucketTree(Bucket.at("memory://bucket/none", tmp_path), Filters()).walk())


def test_copies_are_whole_alike_and_gone(stored: str, memory: Any, tmp_path: Path) -> None:
    remote = Bucket.at(stored, tmp_path) / NAMES[0]
    with at_hand(remote) as first, at_hand(remote) as second:
        assert first.name == second.name == "x.mp4"
        assert first.read_bytes() == second.read_bytes() == memory.cat(f"/bucket/in/{NAMES[0]}")
        assert first.stat().st_mtime_ns == second.stat().st_mtime_ns
    assert not first.exists()
    with at_hand(tmp_path) as path:
        assert path == tmp_path


def test_what_comes_short_is_no_copy(
    stored: str, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = memory.info

    def longer(path: str) -> dict[str, Any]:
        return {**info(path), "size": 10**6}

    monkeypatch.setattr(memory, "info", longer)
    with pytest.raises(StorageError, match="expected 1000000"):
        fetch(f"{stored}/{NAMES[0]}", tmp_path / "copy")


def test_what_a_store_garbles_is_not_sent(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "film").write_bytes(b"film" * 1000)
    send(tmp_path / "film", "memory://bucket/out/film")
    put = memory.put_file

    def garble(path: str, url: str) -> None:
        put(path, url)
        memory.pipe(url, b"filn" + b"film" * 999)

    monkeypatch.setattr(memory, "put_file", garble)
    with pytest.raises(StorageError, match="digest is not the same"):
        send(tmp_path / "film", "memory://bucket/out/film")

    def break_off(*_: object) -> None:
        raise ZeroDivisionError("line\nended")

    monkeypatch.setattr(memory, "put_file", break_off)
    with pytest.raises(StorageError, match="cannot be used: line"):
        send(tmp_path / "film", "memory://bucket/out/film")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://user:secret@bucket/x", "holds a password"),
        ("http://127.0.0.1/x", "can only be read"),
        ("nosuch://bucket", "no store that is known"),
    ],
)
def test_addresses_that_are_refused(url: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        Bucket.at(url, tmp_path, is_written=True)


def test_what_is_an_address(tmp_path: Path) -> None:
    assert all(map(is_url, ("s3://b", "gs://b/c d", "http://h/x", "memory://x")))
    assert not any(map(is_url, ("/a/b", "a:b", "c://"[:1], "file:///x", "a b://c", "://x")))
    assert storage.place("/a", tmp_path) == Path("/a")
