"""Tags by which a result says how it was made."""

from __future__ import annotations

import vsr
from vsr.pipeline.plan import Plan

AI_NOTE = "AI-enhanced: detail was inferred by a neural network"
FILTER_NOTE = "enlarged by interpolation"
_ONE_LINE_KEY = "encoding_tool"


def provenance_tags(plan: Plan) -> dict[str, str]:
    """What made the result, by tag name.

    Where a container holds no tags of free names (mp4 with cover art), all of it goes into the one
    line that mp4 keeps for the program that wrote a file.
    """
    tags = {
        "VSR_VERSION": plan.versions["vsr"],
        "VSR_MODEL": plan.model.id,
        "VSR_SETTINGS": plan.digest(),
        # Interpolation has no weights and invents nothing; saying "AI" of it would be wrong.
        "VSR_NOTE": FILTER_NOTE if plan.model.weights_sha256 is None else AI_NOTE,
    }
    if plan.model.weights_sha256 is not None:
        tags["VSR_WEIGHTS_SHA256"] = plan.model.weights_sha256
    if plan.streams.container == "mkv" or plan.streams.use_metadata_keys:
        return tags
    weights = f"weights {plan.model.weights_sha256[:16]}; " if plan.model.weights_sha256 else ""
    line = (
        f"vsr {vsr.__version__}; {plan.model.id}; {weights}"
        f"settings {plan.digest()[:16]}; {tags['VSR_NOTE']}"
    )
    return {_ONE_LINE_KEY: line}
