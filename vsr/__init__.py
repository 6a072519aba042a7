"""Video super-resolution: the same film comes out, only larger.

The names below are the public ones. They are loaded on first use, so that `import vsr` costs
nothing and a program that only moves media never loads torch.

- `upscale(source, output, config)`: one film, end to end.
- `probe(path)`: what a file holds.
- `check(source, result)`: the proof that the result is the same film.
- `load_upscaler(id_or_path)`, `list_models()`: the networks.
- `errors`: everything these raise.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsr import errors as errors
    from vsr.config import UpscaleConfig as UpscaleConfig
    from vsr.config import resolve_config as resolve_config
    from vsr.media.probe import probe as probe
    from vsr.models.catalog import list_models as list_models
    from vsr.models.checkpoint import load_upscaler as load_upscaler
    from vsr.pipeline.check import check as check
    from vsr.pipeline.upscale import upscale as upscale

__version__ = "0.1.0"

_HOMES = {
    "UpscaleConfig": "vsr.config",
    "check": "vsr.pipeline.check",
    "list_models": "vsr.models.catalog",
    "load_upscaler": "vsr.models.checkpoint",
    "probe": "vsr.media.probe",
    "resolve_config": "vsr.config",
    "upscale": "vsr.pipeline.upscale",
}

__all__ = [
    "UpscaleConfig",
    "__version__",
    "check",
    "errors",
    "list_models",
    "load_upscaler",
    "probe",
    "resolve_config",
    "upscale",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("vsr.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'vsr' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
