"""Stills, one by one or a folder of them: read, enlarged on one device, proven, put in place."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from vsr.config import UpscaleConfig
from vsr.engine.memory import is_out_of_memory, smaller_tile
from vsr.errors import DeviceMemoryError, EncodeError, MediaError, ModelError, VsrError
from vsr.frame import Frame
from vsr.media.exif import with_description
from vsr.media.image_tags import ImageKind
from vsr.media.images import (
    Image,
    ImageFormat,
    encode_image,
    image_format,
    prove_image,
    read_image,
)
from vsr.pipeline.chosen import load_chosen, plan_model
from vsr.pipeline.geometry import GeometryPlan, plan_geometry
from vsr.pipeline.image_jobs import ImageJob, plan_images
from vsr.pipeline.output import beside, take_name, writing
from vsr.pipeline.plan import ComputePlan, ModelPlan

if TYPE_CHECKING:
    from vsr.models.upscaler import ModelSpec, Upscaler

logger = logging.getLogger(__name__)

OnImage = Callable[[int, int], None]
"""Called with the number of stills done and of all."""
_MODEL_SCALES = (1, 2, 3, 4)
INVENTED = "AI-invented detail (vsr {model}): plausible, not evidence of what was there"
"""In the description of a result whose model was trained to look plausible."""


class ImageResult(BaseModel):
    """What became of one still."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    result: str
    ok: bool
    width: int | None = None
    height: int | None = None
    model: str | None = None
    tile_px: int | None = None
    """Side of the tiles it was cut into; None: whole."""
    seed: int | None = None
    """Of models of which another seed makes another picture."""
    invents_detail: bool = False
    """What it shows is plausible and need not be true; its description says so."""
    losses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sha256: str | None = None
    seconds: float = 0.0
    error: str | None = None


class ImagesResult(BaseModel):
    """What became of all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    result: str
    device: str
    detail: float | None
    fidelity: bool
    seconds: float
    done: int
    failed: int
    images: tuple[ImageResult, ...]


def enlarge_images(
    source: Path,
    output: Path,
    config: UpscaleConfig,
    *,
    kind: ImageKind | None = None,
    quality: int | None = None,
    progress: OnImage | None = None,
) -> ImagesResult:
    """Enlarge a still, or every still in a folder.

    No result takes its name before it has been read back. A still of a folder that cannot be read
    is reported, and the others are done.

    Args:
        source: a still or a folder.
        output: likewise; see `plan_images`.
        config: what is asked for: scale or size, model, device, detail, fidelity, overwrite.
        kind: of all results; None keeps each one's.
        quality: of JPEG and WebP, 1 to 100.
        progress: called after each still.

    Raises:
        VsrError: names, model or device are wrong; or the only still could not be done.
    """
    started = time.perf_counter()
    jobs = plan_images(
        source, output, kind=kind, overwrite=config.overwrite, samples=config.samples
    )
    is_folder = source.is_dir()
    studio = _Studio(config, quality)
    results: list[ImageResult] = []
    for job in jobs:
        begun = time.perf_counter()
        try:
            made = studio.make(job)
        except VsrError as error:
            # What is wrong with the model or the request is wrong for all of them.
            is_own = isinstance(error, MediaError | DeviceMemoryError | EncodeError)
            if not is_folder or not (is_own or studio.has_made_some):
                raise
            logger.warning("%s", error)
            made = ImageResult(
                source=str(job.source), result=str(job.result), ok=False, error=str(error)
            )
        seconds = round(time.perf_counter() - begun, 3)
        results.append(made.model_copy(update={"seconds": seconds}))
        if progress is not None:
            progress(len(results), len(jobs))
    num_done = sum(result.ok for result in results)
    return ImagesResult(
        source=str(source),
        result=str(output),
        device=studio.device,
        detail=config.detail,
        fidelity=config.fidelity,
        seconds=round(time.perf_counter() - started, 3),
        done=num_done,
        failed=len(results) - num_done,
        images=tuple(results),
    )


@dataclass(frozen=True, slots=True)
class _Tool:
    """A model that is ready."""

    plan: ModelPlan
    compute: ComputePlan
    spec: ModelSpec
    model: Upscaler
    notes: tuple[str, ...]


class _Studio:
    """Makes one still after the other; a model is loaded when it is first needed, once."""

    def __init__(self, config: UpscaleConfig, quality: int | None) -> None:
        self._config = config
        self._quality = quality
        self._tools: dict[int, _Tool] = {}
        self.device = config.device
        self.has_made_some = False

    def make(self, job: ImageJob) -> ImageResult:
        """Read, enlarge, prove and place one still."""
        # Here, because names and files are looked at before torch has been loaded.
        from vsr.models.upscaler import Explains

        image = read_image(job.source)
        shape = self._shape(image)
        geometry = shape.geometry
        tool = self._tool(shape)
        written = image_format(
            image, job.kind, width=geometry.width, height=geometry.height, quality=self._quality
        )
        seed = self._config.seed + job.sample
        frame, tile_px = self._enlarge(tool, image, shape, written, seed)
        told = [tool.model.explain()] if isinstance(tool.model, Explains) else []
        invents = tool.spec.invents_detail and self._config.detail != 0
        tags = image.tags
        if invents:
            mark = INVENTED.format(model=tool.plan.id)
            tags = replace(tags, exif=with_description(tags.exif, mark))
        data = encode_image(frame, written, tags)
        wrong = prove_image(job.result, data, frame, written)
        if wrong is not None:
            raise EncodeError(f"{job.result} would not show what was made: {wrong}")
        self._place(job, data)
        self.has_made_some = True
        return ImageResult(
            source=str(job.source),
            result=str(job.result),
            ok=True,
            width=geometry.width,
            height=geometry.height,
            model=tool.plan.id,
            tile_px=tile_px,
            seed=seed if tool.spec.draws else None,
            invents_detail=invents,
            losses=written.losses,
            notes=(*shape.notes, *tool.notes, *(f"{tool.plan.id}: {clause}." for clause in told)),
            sha256=hashlib.sha256(data).hexdigest(),
        )

    def _shape(self, image: Image) -> GeometryPlan:
        from vsr.models.checkpoint import resolve_spec

        config = self._config
        scale: float = config.scale
        if config.model is not None and "scale" not in config.model_fields_set:
            scale = resolve_spec(config.model).scale
        return plan_geometry(
            config,
            image.info,
            scale=Fraction(str(scale)),
            model_scales=_MODEL_SCALES,
            multiple=(1, 1),
        )

    def _tool(self, shape: GeometryPlan) -> _Tool:
        key = 0 if self._config.model is not None else shape.model_scale
        if key not in self._tools:
            self._tools[key] = self._load(shape)
        return self._tools[key]

    def _load(self, shape: GeometryPlan) -> _Tool:
        import torch

        from vsr.engine.device import prepare_device
        from vsr.models.checkpoint import resolve_spec

        plan, compute, notes = plan_model(self._config, shape, stills=True)
        self.device = compute.device
        device = torch.device(compute.device)
        prepare_device(device)
        dtype: torch.dtype = getattr(torch, compute.dtype)
        model = load_chosen(plan, device=device, dtype=dtype)
        model.to(memory_format=torch.channels_last)
        return _Tool(plan, compute, resolve_spec(plan.file or plan.id), model, notes)

    def _enlarge(
        self, tool: _Tool, image: Image, shape: GeometryPlan, written: ImageFormat, seed: int
    ) -> tuple[Frame, int | None]:
        """The larger picture, in tiles where the memory asks for them."""
        import torch

        from vsr.engine.room import choose_tile, free_memory

        frame, device = image.frame, torch.device(tool.compute.device)
        tile_px = choose_tile(
            tool.model,
            tool.spec,
            height=frame.height,
            width=frame.width,
            device=device,
            free_bytes=free_memory(device),
        )
        while True:
            try:
                return self._run(tool, image, shape, written, tile_px, seed), tile_px
            except (VsrError, RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                smaller = smaller_tile(frame.height, frame.width, tile_px)
                if smaller is None or not tool.spec.tileable:
                    raise
                logger.info("Memory ran out; tiles of %d pixels are tried.", smaller)
                tile_px = smaller

    def _run(
        self,
        tool: _Tool,
        image: Image,
        shape: GeometryPlan,
        written: ImageFormat,
        tile_px: int | None,
        seed: int,
    ) -> Frame:
        import torch

        from vsr.color import complete
        from vsr.engine.ladder import Rung
        from vsr.engine.runner import Runner
        from vsr.engine.tiles import tile_upscaler

        frame, spec, device = image.frame, tool.spec, torch.device(tool.compute.device)

        def tiled(model: Upscaler) -> Upscaler:
            return model if tile_px is None else tile_upscaler(model, spec, tile_px)

        def load_again() -> Upscaler:
            return tiled(load_chosen(tool.plan, device=device, dtype=torch.float32))

        rungs: Sequence[Rung] = ()
        if tool.compute.dtype != "float32":
            rungs = (Rung(spec, load_again, "redone in float32"),)
        runner = Runner(
            tiled(tool.model),
            spec,
            device=device,
            layout_in=frame.layout,
            color_in=complete(frame.color, frame.width, frame.height, frame.layout)[0],
            layout_out=written.layout,
            color_out=written.color,
            seed=seed,
            geometry=shape.geometry,
            rungs=rungs,
        )
        runner.start_shot()
        results = [*runner.push(frame), *runner.finish_shot()]
        if len(results) != 1:
            raise ModelError(f"{spec.id} made {len(results)} pictures of one")
        return results[0]

    def _place(self, job: ImageJob, data: bytes) -> None:
        made = beside(job.result, ".vsr-part")
        with writing(job.result):
            job.result.parent.mkdir(parents=True, exist_ok=True)
            try:
                made.write_bytes(data)
                take_name(made, job.result, overwrite=self._config.overwrite)
            finally:
                made.unlink(missing_ok=True)
