"""Models as JSON, whatever is in them: names and tags of films need not be UTF-8.

Bytes that are none stand in a `str` as lone surrogates, which JSON as pydantic writes and reads it
cannot hold.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def to_json(model: BaseModel, **options: Any) -> str:
    """One line of ASCII; `options` as of `model_dump`."""
    return json.dumps(model.model_dump(mode="json", **options), separators=(",", ":"))


def from_json(kind: type[Model], text: str | bytes) -> Model:
    """What `to_json` wrote.

    Raises:
        ValueError: it is no JSON, or of another kind.
    """
    return kind.model_validate(json.loads(text))
