"""What a file's name or text says must not open another file, a device or a socket."""

from __future__ import annotations

import ast
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

import vsr
from vsr.cli.main import run

MakeClip = Callable[..., Path]
FAST = ("--model", "bicubic-x2", "--device", "cpu")
ROOT = Path(vsr.__file__).parent


@pytest.fixture(scope="module")
def film(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("film") / "film.mp4", frames=3)


class Listener:
    """A server on loopback that counts who comes."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.port: int = self._socket.getsockname()[1]
        self.num_visits = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            self.num_visits += 1
            connection.close()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    yield server
    server.close()
    assert server.num_visits == 0


def test_the_listener_would_notice() -> None:
    server = Listener()
    # A connection closed at once ends the reading or breaks it, as the network has it.
    with pytest.raises((OSError, EOFError)):
        av.open(f"http://127.0.0.1:{server.port}/a.mp4", timeout=2)
    server.close()
    assert server.num_visits > 0


def test_nothing_but_one_file_opens_media_for_reading() -> None:
    """Every other `av.open` writes, or reads what it has just written into memory."""
    readers = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_open = isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "av.open",
                "av.container.open",
            )
            if not is_open:
                continue
            assert isinstance(node, ast.Call)
            target, *rest = [ast.unparse(argument) for argument in node.args]
            writes = rest[:1] == ["'w'"] or any(k.arg == "mode" for k in node.keywords)
            if not writes and target != "buffer":
                readers.append(path.relative_to(ROOT).as_posix())
    assert readers == ["media/opening.py"]


def test_no_other_library_opens_media() -> None:
    for path in ROOT.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for word in ("VideoCapture", "cv2.imread", "ffprobe", "shell=True", "os.system"):
            assert word not in text, f"{path} uses {word}"


def hostile(port: int, other: Path) -> dict[str, str]:
    """Texts that a careless program would follow, by kind."""
    url = f"http://127.0.0.1:{port}/a"
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}.ts\n#EXT-X-ENDLIST\n",
        "hls-file": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://{other}\n#EXT-X-ENDLIST\n",
        "ffconcat": f"ffconcat version 1.0\nfile {other.name}\n",
        "ffconcat-url": f"ffconcat version 1.0\nfile '{url}.mp4'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "dash": f'<?xml version="1.0"?><MPD><BaseURL>{url}</BaseURL></MPD>',
        "plain": "Once upon a time\n",
    }


@pytest.mark.parametrize(
    "kind", ["hls", "hls-file", "ffconcat", "ffconcat-url", "sdp", "dash", "plain"]
)
@pytest.mark.parametrize("command", ["probe", "upscale"])
def test_text_named_mp4(
    listener: Listener,
    film: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    kind: str,
    command: str,
) -> None:
    shutil.copy(film, tmp_path / "other.mp4")
    source = tmp_path / "a.mp4"
    source.write_text(hostile(listener.port, tmp_path / "other.mp4")[kind])
    output = () if command == "probe" else (str(tmp_path / "out.mkv"),)
    assert run([command, str(source), *output]) == 3
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "holds text, not video" in captured.err
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("command", ["probe", "upscale"])
@pytest.mark.parametrize("scheme", ["http", "tcp", "rtmp", "ftp"])
def test_urls_are_names_of_files_that_do_not_exist(
    listener: Listener,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
    scheme: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    output = () if command == "probe" else ("out.mkv",)
    assert run([command, f"{scheme}://127.0.0.1:{listener.port}/a.mp4", *output]) == 3
    assert "does not exist" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_url_as_output_opens_no_socket(
    listener: Listener,
    film: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    output = f"http://127.0.0.1:{listener.port}/a.mkv"
    assert run(["upscale", *FAST, str(film), output]) == 6
    assert "does not exist" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


NAMES = [
    "concat:x.mp4",
    "-x.mp4",
    "--overwrite.mp4",
    "%03d.mp4",
    "a'b\"c.mp4",
    "new\nline.mp4",
    " leading and trailing .mp4",
    "tab\there.mp4",
    "ünï-日本-🎬.mp4",
    "http:x.mp4",
    "file:x.mp4",
    "pipe:1.mp4",
    "subfile,,start,0,end,0,,:x.mp4",
    "back\\slash.mp4",
    "$(touch x);`y`&z|.mp4",
    "[0:v]scale=1:1;movie=x.mp4",
    "n" * 251 + ".mp4",
    "日" * 83 + "ab.mp4",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_literally(
    film: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
) -> None:
    assert len(os.fsencode(name)) <= 255
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    shutil.copy(film, source / name)
    monkeypatch.chdir(source)
    assert run(["probe", "--json", "--", name]) == 0
    assert json.loads(capfd.readouterr().out)["path"] == name
    monkeypatch.chdir(target)
    # Both names relative: an absolute one would be safe by its first character.
    code = run(["-q", "upscale", *FAST, "--", os.path.relpath(source / name), name])
    captured = capfd.readouterr()
    assert code == 0, captured.err
    assert [p.name for p in target.iterdir() if not p.name.endswith(".vsr.json")] == [name]
    with av.open(f"file:{target / name}") as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_a_name_that_is_not_utf8(
    film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(film, tmp_path / name)
    assert run(["probe", str(tmp_path / name)]) == 0
    assert run(["upscale", *FAST, str(tmp_path / name), str(tmp_path / f"out-{name}")]) == 0
    assert run(["probe", str(tmp_path / f"none-{name}")]) == 3
    assert "does not exist" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["x" * 256 + ".mkv", "no/such/folder/a.mkv"])
def test_names_that_cannot_be_written(
    film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(["upscale", *FAST, str(film), str(tmp_path / name)]) == 6
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_control_characters_do_not_reach_the_terminal(
    film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = "a\x1b[2Jb\rc\nd.mp4"
    shutil.copy(film, tmp_path / name)
    assert run(["probe", str(tmp_path / name)]) == 0
    assert run(["-q", "upscale", *FAST, str(tmp_path / name), str(tmp_path / f"o{name}")]) == 0
    assert run(["probe", str(tmp_path / f"none{name}")]) == 3
    captured = capfd.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "\r" not in captured.out + captured.err
