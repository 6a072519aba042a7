"""Make a fault happen inside every process of a run, the children too."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from tests.faults.promise import ROOT

_HOOK = """\
import importlib.abc
import importlib.util
import sys


def patch(module):
{body}


class _Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Hook())
"""


def injected(folder: Path, module: str, body: str) -> dict[str, str]:
    """The environment in which every Python process changes a module as soon as it is loaded.

    Args:
        folder: for the file that Python runs at its start.
        module: full name.
        body: of a function that is given the module as `module`.
    """
    folder.mkdir(exist_ok=True)
    text = _HOOK.format(module=module, body=textwrap.indent(textwrap.dedent(body), "    "))
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
