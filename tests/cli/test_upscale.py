"""`vsr upscale` and `vsr probe` as a user meets them: a sentence, the right code, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vsr
from vsr.cli.main import run

MakeClip = Callable[..., Path]
ROOT = Path(vsr.__file__).parent.parent
NOBODY = 65534
FAST = ("--model", "bicubic-x2", "--device", "cpu")


@pytest.fixture(scope="module")
def film(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return make_clip(path, frames=20, audio=["aac"])


def assert_one_sentence(stderr: str) -> None:
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("vsr: ")
    assert "Traceback" not in stderr


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[Path, int], str]:
    """Run `vsr upscale SOURCE`, expect this exit code and nothing written; the sentence."""

    def check(source: Path, code: int) -> str:
        output = tmp_path / "out.mkv"
        before = sorted(tmp_path.iterdir())
        assert run(["upscale", "--", str(source), str(output)]) == code
        captured = capfd.readouterr()
        assert captured.out == ""
        assert_one_sentence(captured.err)
        assert sorted(tmp_path.iterdir()) == before
        return captured.err

    return check


def test_missing(refused: Callable[[Path, int], str], tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none.mp4", 3)


def test_empty(refused: Callable[[Path, int], str], tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert "empty" in refused(empty, 3)


def test_directory(refused: Callable[[Path, int], str], tmp_path: Path) -> None:
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    assert "directory" in refused(folder, 3)


def test_fifo(refused: Callable[[Path, int], str], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    assert "pipe" in refused(fifo, 3)


def test_text(refused: Callable[[Path, int], str], tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("ffconcat version 1.0\nfile other.mp4\n")
    assert "text" in refused(text, 3)


def test_random_bytes(refused: Callable[[Path, int], str], tmp_path: Path) -> None:
    noise = tmp_path / "noise.mkv"
    noise.write_bytes(bytes(index * 97 % 251 for index in range(5000)))
    refused(noise, 3)


def test_no_video(refused: Callable[[Path, int], str], make_clip: MakeClip, tmp_path: Path) -> None:
    sound = make_clip(tmp_path / "sound.mp4", video=False, audio=["aac"])
    assert "no video" in refused(sound, 3)


def test_truncated_mp4(
    refused: Callable[[Path, int], str], make_clip: MakeClip, tmp_path: Path
) -> None:
    cut = make_clip(tmp_path / "cut.mp4", truncate=0.5)
    assert "cut off" in refused(cut, 3)


@pytest.mark.parametrize("arguments", [["--overwrite"], []])
def test_output_equal_to_input(
    film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    copy = Path(shutil.copy(film, tmp_path / "copy.mp4"))
    assert run(["upscale", str(copy), str(copy), *arguments]) == 2
    assert_one_sentence(capfd.readouterr().err)
    assert copy.read_bytes() == film.read_bytes()


def test_existing_output(film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.mkv"
    output.write_text("mine")
    assert run(["upscale", str(film), str(output)]) == 6
    assert_one_sentence(capfd.readouterr().err)
    assert output.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "flags", "code"),
    [
        ("out.avi", (), 2),
        ("out.mkv", ("--scale", "0.5"), 2),
        ("out.mkv", ("--model", "bicubik-x4"), 4),
        ("out.mkv", ("--device", "cuda:99", "--model", "bicubic-x2"), 5),
        ("out.mkv", ("--codec", "h265"), 2),
        ("out.mkv", ("--preset", "fats"), 2),
        ("out.mkv", ("--set", "scal=2"), 2),
        ("out.mkv", ("--scale", "2", "--height", "96"), 2),
        ("out.mkv", (*FAST, "--crf", "60"), 2),
        ("no/out.mkv", FAST, 6),
    ],
)
def test_wrong_wishes(
    film: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    flags: tuple[str, ...],
    code: int,
) -> None:
    assert run(["upscale", str(film), str(tmp_path / name), *flags]) == code
    assert_one_sentence(capfd.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_unwritable_folder_as_an_ordinary_user(film: Path, open_folder: Path) -> None:
    source = Path(shutil.copy(film, open_folder / "film.mp4"))
    source.chmod(0o644)
    target = open_folder / "locked"
    target.mkdir()
    target.chmod(0o555)
    code = (
        "import os, sys\n"
        "import vsr.cli.upscale, vsr.pipeline.upscale, vsr.config\n"
        "from vsr.cli.main import run\n"
        f"if os.getuid() == 0: os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "upscale", str(source), str(target / "out.mkv"), *FAST],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 6, done.stderr
    assert_one_sentence(done.stderr)
    assert "write" in done.stderr
    assert list(target.iterdir()) == []


def test_the_result_as_json_and_lines_of_progress(
    film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output, json_file = tmp_path / "out.mp4", tmp_path / "out.json"
    arguments = ["upscale", str(film), str(output), *FAST, "--json", "--json-file", str(json_file)]
    assert run(arguments) == 0
    captured = capfd.readouterr()
    document = json.loads(captured.out)
    assert set(document) >= {
        *("source", "result", "frames", "width", "height", "model", "scale", "device"),
        *("seconds", "fps", "bottleneck", "plan", "events", "check", "digests"),
    }
    assert document["frames"] == 20
    assert (document["width"], document["height"]) == (128, 96)
    assert document["check"]["ok"] is True
    assert {"name", "ok", "source", "result", "note"} == set(document["check"]["rows"][0])
    assert json.loads(json_file.read_text()) == document
    lines = captured.err.strip().splitlines()
    assert len(lines) == 10
    assert lines[0].split()[:2] == ["10", "%"]
    assert "20/20 frames" in lines[-1]
    assert all("slowest: " in line for line in lines)
    assert stat.S_IMODE(output.stat().st_mode) & 0o077 == 0o044 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_quiet_says_nothing_and_a_person_gets_a_summary(
    film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["upscale", "-q", str(film), str(tmp_path / "out.mkv"), *FAST]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    assert "128x96, 20 frames" in captured.out
    assert "bicubic-x2" in captured.out


def test_an_existing_json_file_is_refused_before_the_run(
    film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken.json"
    taken.write_text("mine")
    output = tmp_path / "out.mkv"
    assert run(["upscale", str(film), str(output), *FAST, "--json-file", str(taken)]) == 6
    assert_one_sentence(capfd.readouterr().err)
    assert not output.exists()
    assert taken.read_text() == "mine"


def test_a_name_with_a_leading_dash(film: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vsr", "upscale", "-q", *FAST, "--", str(film), "-x y.mkv"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["-x y.mkv"]


def test_probe_tells_what_is_there_and_what_would_become_of_it(
    film: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["probe", str(film), "--for", "x.mkv", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["video"]["width"] == 64
    assert document["video"]["time_base"] == "1/12800"
    assert [stream["kind"] for stream in document["streams"]] == ["video", "audio"]
    streams = document["for"]["plan"][:2]
    assert [(item["kind"], item["action"]) for item in streams] == [
        ("video", "video"),
        ("audio", "keep"),
    ]
    assert (document["for"]["width"], document["for"]["result"]) == (256, "x.mkv")
    assert run(["probe", str(film)]) == 0
    assert "h264 64x48" in capfd.readouterr().out


def test_probe_refuses_in_a_sentence(
    film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["probe", str(tmp_path / "none.mkv")]) == 3
    assert_one_sentence(capfd.readouterr().err)
    assert run(["probe", str(film), "--for", "x.gif"]) == 2
    assert_one_sentence(capfd.readouterr().err)


def test_a_refusal_does_not_load_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from vsr.cli.main import run\n"
        "code = run(sys.argv[1:])\n"
        "sys.exit(99 if 'torch' in sys.modules else code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "upscale", str(tmp_path / "none.mp4"), "out.mkv"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr
