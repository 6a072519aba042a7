"""Rows 37 to 40: weights, playlists, names and tags that are meant to do harm."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from safetensors.torch import save_file

from tests.cli.test_safety import Listener, hostile
from tests.faults.promise import FAST, Faults, MakeClip, listing
from vsr.models.catalog import get_spec
from vsr.models.checkpoint import save_checkpoint

MODEL = "flowprop-xs-x4"


@pytest.fixture
def film(faults: Faults, make_clip: MakeClip) -> Path:
    return make_clip(faults.source / "film.mp4", frames=3)


class _Bomb:
    """Runs a command when unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch {self._mark}",)


def _network() -> tuple[Any, dict[str, Any]]:
    spec = get_spec(MODEL)
    return spec.build(**spec.params), dict(spec.params)


def _sound(path: Path) -> Path:
    module, params = _network()
    save_checkpoint(path, module, spec_id=MODEL, params=params)
    return path


def _cut(path: Path) -> None:
    _sound(path)
    os.truncate(path, path.stat().st_size // 2)


def _other_network(path: Path) -> None:
    _, params = _network()
    save_checkpoint(path, torch.nn.Linear(3, 3), spec_id=MODEL, params=params)


def _nan(path: Path) -> None:
    _sound(path)
    data = bytearray(path.read_bytes())
    data[-2:] = b"\x00\x7e"
    path.write_bytes(data)


def _bloated(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")


def _foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


WEIGHTS: dict[str, Callable[[Path], None]] = {
    "cut": _cut,
    "of another network": _other_network,
    "not a number": _nan,
    "a header of 1 TB": _bloated,
    "of nobody": _foreign,
    "empty": Path.touch,
}


@pytest.mark.fault(row=37, injected="crafted weight files")
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights(faults: Faults, film: Path, kind: str) -> None:
    weights = faults.source.parent / "weights.safetensors"
    WEIGHTS[kind](weights)
    faults.refused(film, "--model", weights, code=4)


@pytest.mark.fault(row=37, injected="a pickle that runs a command, by four names")
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.pt", "a.ckpt"])
def test_a_pickle_is_never_run(faults: Faults, film: Path, name: str) -> None:
    mark, weights = faults.source.parent / "mark", faults.source.parent / name
    weights.write_bytes(pickle.dumps(_Bomb(mark), protocol=2))
    faults.refused(film, "--model", weights, code=4)
    assert not mark.exists()
    torch.save(_Bomb(mark), weights)
    faults.refused(film, "--model", weights, code=4)
    assert not mark.exists()
    faults.tell("the command never ran")


@pytest.mark.fault(row=37, injected="shipped weights with one bit changed")
def test_a_changed_bit(faults: Faults, film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vsr.models import catalog, checkpoint

    shelf = faults.source.parent / "shelf"
    shipped = catalog.weights_path(get_spec(MODEL))
    assert shipped is not None
    shutil.copytree(shipped.parent, shelf)
    copy = shelf / shipped.name
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    for module in (catalog, checkpoint):
        monkeypatch.setattr(module, "weights_path", lambda spec: copy)
    with pytest.raises(Exception, match="SHA-256") as caught:
        checkpoint.load_upscaler(MODEL)
    assert getattr(caught.value, "exit_code", None) == 4
    faults.tell("exit 4: the SHA-256 is not the one on the card")


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    yield server
    server.close()


@pytest.mark.fault(row=38, injected="playlists and descriptions named .mp4 that lead elsewhere")
@pytest.mark.parametrize("kind", ["hls", "hls-file", "ffconcat", "ffconcat-url", "sdp", "plain"])
def test_text_named_mp4(faults: Faults, listener: Listener, film: Path, kind: str) -> None:
    source = faults.source / "text.mp4"
    source.write_text(hostile(listener.port, film)[kind], encoding="utf-8")
    faults.refused(source, words="holds text, not video")
    assert listener.num_visits == 0
    faults.tell("nobody called")


@pytest.mark.fault(row=38, injected="URLs of a server of ours as source and as result")
@pytest.mark.parametrize("scheme", ["http", "tcp", "rtmp"])
def test_urls(
    faults: Faults,
    listener: Listener,
    film: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    monkeypatch.chdir(faults.source.parent)
    url = f"{scheme}://127.0.0.1:{listener.port}/a.mkv"
    faults.refused(url, words="does not exist")
    faults.refused(film, code=6, output=Path(url), words="does not exist")
    assert listener.num_visits == 0
    faults.tell("nobody called")


CLIMBING = "../../../escaped.txt"


@pytest.mark.fault(row=39, injected="attachments and tags named ../../../escaped.txt")
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_names_that_climb(faults: Faults, make_clip: MakeClip, suffix: str) -> None:
    film = make_clip(
        faults.source / "climbing.mkv",
        frames=3,
        attachment=CLIMBING,
        title=CLIMBING,
        metadata={"title": CLIMBING, "filename": CLIMBING},
    )
    around = faults.source.parent.parent
    before = sorted(path.name for path in around.rglob("escaped*"))
    faults.continued(film, num_frames=3, suffix=suffix)
    assert sorted(path.name for path in around.rglob("escaped*")) == before == []
    if suffix == ".mkv":
        with av.open(str(faults.target / "result.mkv")) as container:
            assert container.streams.attachments[0].metadata["filename"] == CLIMBING
    faults.tell("copied as text, never used as a name")


@pytest.mark.fault(row=39, injected="a work folder's name that is a link to another folder")
def test_a_link_in_the_place_of_the_work_folder(faults: Faults, film: Path) -> None:
    elsewhere = faults.source.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    (faults.target / ".result.mkv.vsr-work").symlink_to(elsewhere)
    ended = faults.run("upscale", *FAST, film, faults.target / "result.mkv")
    assert listing(elsewhere) == ["precious"]
    assert (elsewhere / "precious").read_text() == "mine"
    assert ended.code == 6
    faults.tell(f'exit {ended.code}: "{faults.plain(ended.sentence)}"')


MARKUP = "<script>alert(1)</script>=cmd|' /C calc'!A0"


@pytest.mark.fault(row=40, injected="markup, formulas and control codes in names and tags")
@pytest.mark.parametrize("command", ["probe", "upscale", "check"])
def test_markup_is_text(faults: Faults, make_clip: MakeClip, command: str) -> None:
    tag = f"{MARKUP}\x1b[31m\x07"
    plain = make_clip(faults.source.parent / "plain.mp4", frames=3)
    film = make_clip(
        faults.source / "<b>\x1b[2J&amp;'\".mkv",
        frames=3,
        title=tag,
        metadata={"title": tag, "artist": tag},
    )
    plain.unlink()
    result = faults.target / "<i>\x1b]0;x\x07.mkv"
    made = faults.run("upscale", *FAST, "--json", film, result)
    assert made.code == 0, made.err
    arguments = {
        "probe": ("probe", film),
        "upscale": ("upscale", *FAST, "--overwrite", film, result),
        "check": ("check", film, result),
    }[command]
    for flags in ((), ("--json",)):
        ended = faults.run(arguments[0], *flags, *arguments[1:])
        assert ended.code == 0, ended.err
        for code in ("\x1b", "\x07", "\r"):
            assert code not in ended.out + ended.err
        assert not flags or ended.document
    faults.tell("no control code reaches the terminal, and the JSON can be read")
