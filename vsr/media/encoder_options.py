"""What each encoder is told, in its own words, to make the bytes that the settings promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsr.errors import ConfigError
from vsr.frame import ChromaLocation, MasteringDisplay
from vsr.media.codecs import CodecTraits, needs_card

if TYPE_CHECKING:
    from vsr.media.settings import EncoderSettings

_CTU_PX = 64
"""Side of x265's largest blocks. Where one of them is as high or wide as the whole picture, x265
4.2 encodes otherwise from run to run: 12 encodes of 64x64 gave up to 9 results, some with halves of
pictures gone. With smaller blocks all were equal."""
_CUTREE_PX = 64
"""x265's cutree handles four 16-pixel units of a row at a time, and writes beyond its memory where
a row has fewer: 36x64 and 48x96 crashed, and never without cutree."""


def encoder_options(
    traits: CodecTraits, settings: EncoderSettings, crf: float | None, preset: str | None
) -> dict[str, str]:
    """Options of the chosen encoder, deterministic by construction.

    x264 is told to be `cpu-independent` and x265 to leave out its settings message, which names
    the processor. x265 gets explicit pools and frame threads, SVT-AV1 its level of parallelism.

    Args:
        traits: of the codec.
        settings: complete but for the options.
        crf: constant quality on the encoder's own scale, or None for the default.
        preset: speed preset, or a ProRes or DNxHR profile; None for the default.

    Raises:
        ConfigError: the encoder has no such quality or preset.
    """
    options: dict[str, str] = {}
    if traits.crf is None:
        if crf is not None:
            raise ConfigError(f"{traits.user_name} has no constant quality scale; leave crf out")
    else:
        low, high, default = traits.crf
        value = default if crf is None else crf
        if not low <= value <= high:
            raise ConfigError(f"crf of {traits.user_name} goes from {low:g} to {high:g}, not {crf}")
        options["crf"] = f"{value:g}"
    if preset is not None and preset not in traits.presets:
        names = ", ".join(traits.presets) or "none at all"
        raise ConfigError(f"{traits.user_name} has no preset {preset!r}; it knows {names}")
    preset = preset or traits.default_preset
    location = settings.color.chroma_location
    if location != ChromaLocation.UNSPECIFIED and settings.layout.log2_chroma_h == 1:
        options["chroma_sample_location"] = location.name.lower()
    if traits.encoder == "libx264":
        options |= {"preset": preset or "", "a53cc": "0", "x264-params": _x264_params(settings)}
    elif traits.encoder == "libx265":
        options |= {"preset": preset or "", "a53cc": "0", "x265-params": _x265_params(settings)}
    elif traits.encoder == "libsvtav1":
        options |= {"preset": preset or "", "svtav1-params": _svtav1_params(settings)}
    elif needs_card(traits.encoder):
        # Constant quality is a variable rate without a rate to these.
        options["cq"] = options.pop("crf")
        options |= {"rc": "vbr", "b": "0", "preset": preset or "", "tune": "hq"}
        options |= {"strict_gop": "1", "forced-idr": "1", "a53cc": "0"}
    elif traits.encoder == "ffv1":
        slices = "4" if settings.width * settings.height <= 1280 * 720 else "16"
        options |= {"level": "3", "slices": slices, "slicecrc": "1", "context": "0"}
        options |= {"coder": "range_tab" if settings.layout.bits > 8 else "range_def"}
    elif traits.encoder == "dnxhd":
        options |= {"profile": _dnxhr_profile(settings, preset)}
    else:
        has_full_chroma = settings.layout.log2_chroma_w == 0
        name = preset or ("4444" if has_full_chroma else "hq")
        if name.startswith("4444") != has_full_chroma:
            raise ConfigError(f"ProRes {name} does not hold {settings.pixel_format}")
        options |= {"profile": name, "vendor": "apl0"}
    return options


def _dnxhr_profile(settings: EncoderSettings, preset: str | None) -> str:
    """The profile for a pixel format; only the 8-bit ones come in several qualities."""
    if settings.layout.log2_chroma_w == 0:
        fitting: tuple[str, ...] = ("dnxhr_444",)
    elif settings.layout.bits > 8:
        fitting = ("dnxhr_hqx",)
    else:
        fitting = ("dnxhr_hq", "dnxhr_sq", "dnxhr_lb")
    if preset is not None and preset not in fitting:
        raise ConfigError(
            f"DNxHR {preset} does not hold {settings.pixel_format}; {', '.join(fitting)} do"
        )
    return preset or fitting[0]


def _x264_params(settings: EncoderSettings) -> str:
    params = {"cpu-independent": "1"}
    if settings.mastering_display:
        params["mastering-display"] = _mastering_text(settings.mastering_display, as_integers=True)
    if settings.content_light:
        params["cll"] = f"{settings.content_light.max_cll},{settings.content_light.max_fall}"
    return _join_params(params)


def _x265_params(settings: EncoderSettings) -> str:
    params = {
        "log-level": "error",
        "info": "0",
        "open-gop": "0",
        "pools": str(settings.threads),
        "frame-threads": str(min(4, settings.threads)),
    }
    if min(settings.width, settings.height) <= _CTU_PX:
        params["ctu"] = "16"
    if settings.width < _CUTREE_PX:
        params["cutree"] = "0"
    if settings.mastering_display or settings.content_light:
        params["hdr10"] = "1"
    if settings.mastering_display:
        params["master-display"] = _mastering_text(settings.mastering_display, as_integers=True)
    if settings.content_light:
        params["max-cll"] = f"{settings.content_light.max_cll},{settings.content_light.max_fall}"
    return _join_params(params)


def _svtav1_params(settings: EncoderSettings) -> str:
    params = {"lp": str(settings.threads)}
    if settings.mastering_display:
        params["mastering-display"] = _mastering_text(settings.mastering_display, as_integers=False)
    if settings.content_light:
        light = settings.content_light
        params["content-light"] = f"{light.max_cll},{light.max_fall}"
    return _join_params(params)


def _mastering_text(display: MasteringDisplay, *, as_integers: bool) -> str:
    """Mastering display as encoders take it: integers in HEVC's units, or decimals."""
    text = ""
    points = {"G": display.green, "B": display.blue, "R": display.red, "WP": display.white}
    for name, point in points.items():
        assert point is not None
        x, y = (round(value * 50000) for value in point)
        text += f"{name}({x},{y})" if as_integers else f"{name}({x / 50000:.5f},{y / 50000:.5f})"
    assert display.max_luminance is not None and display.min_luminance is not None
    high, low = round(display.max_luminance * 10000), round(display.min_luminance * 10000)
    return text + (
        f"L({high},{low})" if as_integers else f"L({high / 10000:.4f},{low / 10000:.4f})"
    )


def _join_params(params: dict[str, str]) -> str:
    return ":".join(f"{key}={value}" for key, value in params.items())
