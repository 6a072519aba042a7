"""`vsr models add`, `fetch`, `verify` and `remove`, with downloads from this machine alone."""

from __future__ import annotations

import hashlib
import json
import pickle
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import save_file

from tests.models.image.test_layouts import fsrcnn
from vsr.cli.main import run
from vsr.models.catalog import get_spec
from vsr.models.checkpoint import save_checkpoint


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("VSR_HOME", str(folder))
    monkeypatch.delenv("VSR_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folder / "models"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address, folder) of a server on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", folder
        listening.shutdown()
        thread.join()


def write_weights(path: Path, model_id: str = "espcn-x2") -> str:
    spec = get_spec(model_id)
    torch.manual_seed(4)
    return save_checkpoint(path, spec.build(**spec.params), spec_id=model_id, params=spec.params)


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert run(["models", "list", "--json"]) == 0
    return {row["id"]: row for row in json.loads(capsys.readouterr().out)}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_added_used_and_removed(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "My Best (final).safetensors"
    sha256 = write_weights(weights)
    assert run(["models", "add", str(weights), "--sha256", sha256.upper()]) == 0
    row = listed(capsys)["my-best-final-x2"]
    assert (row["shipped"], row["licence"], row["sha256"]) == (False, "NOASSERTION", sha256)
    assert (row["scale"], row["family"]) == (2, "espcn") and row["params"] > 1000
    assert run(["models", "show", "my-best-final-x2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["origin"] == weights.name
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "in.png")
    for name, model in (("one", "my-best-final-x2"), ("two", str(weights))):
        argv = ["image", "--device", "cpu", "--json", "--model", model, str(tmp_path / "in.png")]
        assert run([*argv, str(tmp_path / f"{name}.png")]) == 0
    first = json.loads(capsys.readouterr().out.partition("\n}\n")[0] + "}")
    assert first["images"][0]["model"] == "my-best-final-x2"
    one, two = (np.asarray(Pillow.open(tmp_path / f"{n}.png")) for n in ("one", "two"))
    assert one.shape == (40, 48, 3) and np.array_equal(one, two)
    assert run(["models", "remove", "my-best-final-x2"]) == 0
    assert "my-best-final-x2" not in listed(capsys)
    assert not list(home.iterdir()) and weights.is_file()


def test_public_weights_and_foreign_safetensors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, _ = fsrcnn()
    torch.save({"params": tensors}, tmp_path / "public.pth")
    save_file(dict(tensors), tmp_path / "public.safetensors")
    argv = ["models", "add", "--licence", "Apache-2.0"]
    assert run([*argv, str(tmp_path / "public.pth"), "--id", "mine-x4"]) == 0
    assert run([*argv, str(tmp_path / "public.safetensors"), "--id", "other-x4"]) == 0
    rows = listed(capsys)
    assert rows["mine-x4"]["licence"] == "Apache-2.0"
    same = ("family", "scale", "params", "gmac_180p")
    assert all(rows["mine-x4"][key] == rows["other-x4"][key] for key in same)


def test_a_changed_file_is_found_and_fetched_again(
    server: tuple[str, Path], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, folder = server
    sha256 = write_weights(folder / "net x2.safetensors")
    url = f"{address}/net%20x2.safetensors"
    assert run(["models", "add", url, "--sha256", sha256, "--id", "net-x2"]) == 0
    assert run(["models", "verify", "net-x2"]) == 0
    path = home / "net-x2.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    Pillow.new("RGB", (16, 16)).save(tmp_path / "in.png")
    capsys.readouterr()
    argv = ["image", "--model", "net-x2", str(tmp_path / "in.png"), str(tmp_path / "out.png")]
    assert run(argv) == 4
    assert "SHA-256" in capsys.readouterr().err and not (tmp_path / "out.png").exists()
    assert run(["models", "verify", "--json", "net-x2"]) == 4
    assert json.loads(capsys.readouterr().out)[0]["ok"] is False
    assert run(["models", "fetch", "--offline", "net-x2"]) == 4
    assert "--offline" in capsys.readouterr().err
    assert run(["models", "fetch"]) == 0
    assert "fetched" in capsys.readouterr().out and digest(path) == sha256
    assert run(["models", "fetch", "--offline"]) == 0
    # Another file at the address is not taken in place of the one that was added.
    path.unlink()
    write_weights(folder / "net x2.safetensors", "espcn-x4")
    assert run(["models", "fetch", "net-x2"]) == 4
    assert not path.exists()


def test_what_is_refused_in_one_sentence(
    server: tuple[str, Path], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, folder = server
    good = tmp_path / "good.safetensors"
    write_weights(good)
    mark = tmp_path / "executed"

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    (tmp_path / "code.pth").write_bytes(pickle.dumps({"params": Code()}))
    (folder / "code.pth").write_bytes(pickle.dumps({"params": Code()}))
    script = torch.jit.script(torch.nn.Conv2d(1, 1, 1))
    script.save(str(tmp_path / "script.pt"))  # type: ignore[no-untyped-call]
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:200])
    torch.save({"params": {"a": torch.full((2,), float("nan"))}}, tmp_path / "nan.pth")
    torch.save({"params": {"strange.weight": torch.ones(2)}}, tmp_path / "strange.pth")
    (tmp_path / "program.pt2").write_bytes(b"PK")
    cases: dict[str, tuple[int, list[str]]] = {
        "holds more than plain": (4, [str(tmp_path / "code.pth")]),
        "is not opened": (4, [f"{address}/code.pth"]),
        "TorchScript": (4, [str(tmp_path / "script.pt")]),
        "truncated": (4, [str(tmp_path / "cut.safetensors")]),
        "not a finite number": (4, [str(tmp_path / "nan.pth")]),
        "strange.weight": (4, [str(tmp_path / "strange.pth")]),
        "not called like a weight file": (4, [str(tmp_path / "program.pt2")]),
        "cannot be read": (4, [str(tmp_path / "absent.pth")]),
        "could not be got": (4, [f"{address}/absent.pth"]),
        "neither an http": (4, ["file:///etc/hosts.pth"]),
        "--offline": (4, [f"{address}/good.safetensors", "--offline"]),
        "have the SHA-256": (4, [str(good), "--sha256", "0" * 64]),
        "is not a SHA-256": (2, [str(good), "--sha256", "abc"]),
        "enlarges by 2": (2, [str(good), "--id", "mine-x4"]),
        "is called 'bicubic-x2' already": (2, [str(good), "--id", "bicubic-x2"]),
        "cannot be an id": (2, [str(good), "--id", "../out-x2"]),
    }
    for sentence, (code, arguments) in cases.items():
        capsys.readouterr()
        assert run(["-q", "models", "add", *arguments]) == code, sentence
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and sentence in lines[0], (sentence, lines)
    assert not mark.exists()
    assert not [path for path in home.rglob("*") if path.is_file()], "nothing half done is left"
    assert run(["models", "remove", "bicubic-x2"]) == 4
    assert run(["models", "fetch", "nothing-x2"]) == 4
    assert run(["models", "verify", "nothing-x2"]) == 4


def test_wrong_digest_of_a_download(
    server: tuple[str, Path], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, folder = server
    write_weights(folder / "good.safetensors")
    assert run(["models", "add", f"{address}/good.safetensors", "--sha256", "0" * 64]) == 4
    assert "another file" in capsys.readouterr().err
    assert not [path for path in home.rglob("*") if path.is_file()]
