"""Run the program on a fault, and assert what is promised of every run, good or bad."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

import vsr
from vsr.cli.main import run as run_cli

MakeClip = Callable[..., Path]
ROOT = Path(vsr.__file__).parent.parent
ISOLATED = ("--model", "bicubic-x2", "--device", "cpu")
"""A model that costs nothing, of which everything but its pictures is true for any other."""
FAST = (*ISOLATED, "--set", "engine.isolate=false")
"""For faults of the input: segments are made in this process, which saves the start of another."""
NOBODY = 65534
# Version 18 refuses tags that are not UTF-8; 19 never does, and has no such argument.
_ANY_TAGS: dict[str, Any] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
)
_VARYING = {
    r"at-work-\w+/": "",
    r"process \d+": "process N",
    r"127\.0\.0\.1:\d+": "127.0.0.1:PORT",
    r"and [\d.]+ .B are free": "and less is free",
    r"/[\w./-]*/([\w.-]+\.so)\b": r"\1",
    r"(.)\1{40,}": r"\1\1\1...",
}
AUDIO_LIMIT_S = Fraction(1, 1000)


def quick_only(quick: Sequence[str], every: Iterable[str]) -> list[Any]:
    """Parameters, of which all but a few are left to `-m faults`."""
    return [
        value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in every
    ]


@dataclass(frozen=True)
class Ended:
    """How a run of the program ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What it printed under `--json`."""
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def sentence(self) -> str:
        """The one thing it complained of; lines of progress are none."""
        lines = [
            line
            for line in self.err.splitlines()
            if not re.match(r"\s*\d+ %  ", line) and not line.startswith("vsr: warning: ")
        ]
        assert "Traceback" not in self.err, self.err
        assert len(lines) == 1, self.err
        assert lines[0].startswith("vsr: "), self.err
        return lines[0].removeprefix("vsr: ")


def listing(folder: Path) -> list[str]:
    """Everything in a folder and below but the record of a finished run."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not re.fullmatch(r"\..*\.vsr\.json", path.name, re.DOTALL)
    )


def in_a_process(
    arguments: Sequence[str],
    *,
    code: str = "",
    env: Mapping[str, str] | None = None,
    timeout_s: float = 150,
    cwd: Path | None = None,
) -> Ended:
    """Run the program in a process of its own, after `code`."""
    import os

    script = f"import sys, os\n{code}\nfrom vsr.cli.main import main\nmain()\n"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(env or {})},
        timeout=timeout_s,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


class Faults:
    """One test's folders, and its promises.

    Args:
        folder: to work in.
        capfd: takes what the program says.
        outcomes: told in a few words what became of each run.
    """

    def __init__(
        self, folder: Path, capfd: pytest.CaptureFixture[str], outcomes: list[str]
    ) -> None:
        self.source = folder / "in"
        """Where films come from."""
        self.target = folder / "out"
        """Where results go; holds nothing else."""
        self.scratch = folder / "tmp"
        """What the program takes for the folder of temporary files."""
        for each in (self.source, self.target, self.scratch):
            each.mkdir()
        self._capfd = capfd
        self._outcomes = outcomes

    def tell(self, outcome: str) -> None:
        """Say on the page what became of it."""
        self._outcomes.append(outcome)

    def run(self, *arguments: str | Path) -> Ended:
        """Run the program in this process."""
        self._capfd.readouterr()
        code = run_cli([str(argument) for argument in arguments])
        captured = self._capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    def refused(
        self,
        source: Path | str,
        *flags: str | Path,
        code: int = 3,
        words: str = "",
        output: Path | None = None,
        run: Callable[[Sequence[str]], Ended] | None = None,
    ) -> Ended:
        """Assert that `vsr upscale` ends in a sentence with this code and leaves nothing behind.

        Args:
            source: the film.
            flags: further ones.
            code: of the exit.
            words: a part of the sentence, as a pattern.
            output: name of the result.
            run: how to run the program; here if None.
        """
        output = output or self.target / "result.mkv"
        before = listing(self.source), listing(self.target)
        arguments = ["upscale", *FAST, *map(str, flags), "--", str(source), str(output)]
        ended = run(arguments) if run is not None else self.run(*arguments)
        assert ended.code == code, (ended.code, ended.err)
        assert ended.out == ""
        assert re.search(words, ended.sentence), ended.sentence
        assert (listing(self.source), listing(self.target)) == before
        self.assert_no_scratch()
        self.tell(f'exit {code}: "{self.plain(ended.sentence)}"')
        return ended

    def continued(
        self,
        source: Path,
        *flags: str | Path,
        num_frames: int | None = None,
        damaged: bool | None = None,
        suffix: str = ".mkv",
        told: str = "",
    ) -> dict[str, Any]:
        """Assert that `vsr upscale` gives the same film, proven from outside; its document.

        Args:
            source: the film.
            flags: further ones.
            num_frames: that the result must have.
            damaged: whether damage must be counted; None if that is of no matter.
            suffix: of the result.
            told: what else to say on the page.
        """
        output = self.target / f"result{suffix}"
        ended = self.run("upscale", *FAST, "--json", *flags, "--", source, output)
        assert ended.code == 0, ended.err
        return self.proven(source, output, ended, num_frames=num_frames, damaged=damaged, told=told)

    def proven(
        self,
        source: Path,
        output: Path,
        ended: Ended,
        *,
        num_frames: int | None = None,
        damaged: bool | None = None,
        told: str = "",
    ) -> dict[str, Any]:
        """Assert that a result is whole, by reading it with av alone and by `vsr check`."""
        document = ended.document
        kept = [f"{output.stem}{output.suffix}"]
        sidecar = output.with_name(f"{output.name}.vsr.json")
        assert [n for n in listing(output.parent) if n != sidecar.name] == kept
        self.assert_no_scratch()
        found = decoded(output)
        assert found == document["frames"]
        assert num_frames is None or found == num_frames, (found, num_frames)
        count = document["damaged_frames"]
        assert damaged is None or (count > 0) == damaged, document["events"]
        assert not damaged or document["events"]
        shift = audio_shift(source, output)
        assert shift is None or abs(shift) <= AUDIO_LIMIT_S, float(shift)
        assert document["check"]["ok"]
        check = self.run("check", "--json", "--", source, output)
        assert check.code == 0, check.out
        words = [f"exit 0, {found} frames"]
        if count:
            kinds = ", ".join(sorted({event["kind"] for event in document["events"]}))
            words.append(f"{count} damaged ({kinds})")
        if shift is not None:
            words.append("sound within 1 ms")
        words.append("check ok")
        self.tell("; ".join([", ".join(words), *([told] if told else [])]))
        return document

    def assert_no_scratch(self) -> None:
        """No temporary file may be left."""
        assert listing(self.scratch) == []

    def plain(self, text: str) -> str:
        """Text without what differs from run to run: folders, processes, ports, free space."""
        for folder in (self.source, self.target, self.scratch, self.source.parent):
            text = text.replace(f"{folder}/", "").replace(str(folder), "FOLDER")
        for pattern, instead in _VARYING.items():
            text = re.sub(pattern, instead, text)
        return text


def decoded(path: Path) -> int:
    """Frames in a file, all decoded, at times that rise; nothing may be called damaged."""
    count, last = 0, None
    with av.open(str(path), **_ANY_TAGS) as container:
        for frame in container.decode(video=0):
            assert not frame.is_corrupt
            assert frame.pts is not None
            assert last is None or frame.pts > last
            count, last = count + 1, frame.pts
    return count


def audio_shift(source: Path, result: Path) -> Fraction | None:
    """By how much, in seconds, the sound moved against the pictures; None without sound."""
    before, after = _audio_offset(source), _audio_offset(result)
    return None if before is None or after is None else after - before


def _audio_offset(path: Path) -> Fraction | None:
    """Start of the first sound track against the first picture shown, by the packets' times."""
    starts: dict[str, Fraction] = {}
    with av.open(str(path), **_ANY_TAGS) as container:
        films = [s for s in container.streams.video if not int(s.disposition) & 0x400]
        wanted = [*films[:1], *container.streams.audio[:1]]
        if len(wanted) < 2:
            return None
        try:
            for packet in container.demux(wanted):
                is_video = packet.stream.type == "video"
                if packet.size and packet.pts is not None and not (is_video and packet.is_discard):
                    base = packet.time_base
                    time = packet.pts * Fraction(base.numerator, base.denominator)
                    kind = packet.stream.type
                    starts[kind] = min(time, starts.get(kind, time))
        except av.FFmpegError:
            # A source that ends in mid-packet: what came before counts.
            pass
    if len(starts) < 2:
        return None
    return starts["audio"] - starts["video"]
