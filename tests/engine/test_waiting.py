"""The wait policy is set before torch reads it, and a user's choice is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vsr

ROOT = Path(vsr.__file__).parent.parent


def run(code: str, **environment: str) -> str:
    own = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    kept = {key: value for key, value in os.environ.items() if key not in own}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**kept, **environment},
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "True PASSIVE 20000 False"),
        ({"OMP_WAIT_POLICY": "active"}, "False active None False"),
        ({"GOMP_SPINCOUNT": "7"}, "True PASSIVE 7 False"),
    ],
)
def test_set_before_torch(environment: dict[str, str], expected: str) -> None:
    code = (
        "import os, sys\n"
        "from vsr.engine.waiting import wait_briefly\n"
        "done = wait_briefly()\n"
        "found = [os.environ.get(name) for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')]\n"
        "print(done, *found, 'torch' in sys.modules)\n"
    )
    assert run(code, **environment) == expected


def test_after_torch_it_is_too_late_and_says_so() -> None:
    code = (
        "import os, sys\n"
        "sys.modules['torch'] = os\n"
        "from vsr.engine.waiting import wait_briefly\n"
        "print(wait_briefly(), os.environ.get('OMP_WAIT_POLICY'))\n"
    )
    assert run(code) == "False None"


def test_an_upscale_sets_it_before_it_loads_torch() -> None:
    code = (
        "import os, sys\n"
        "from vsr.pipeline.upscale import upscale\n"
        "try:\n"
        "    upscale('none.mp4', 'out.mkv')\n"
        "except OSError:\n"
        "    print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)\n"
    )
    assert run(code) == "PASSIVE False"
