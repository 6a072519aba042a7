"""The error tree.

Every error a user or the outside world can cause is a `VsrError`. Each class also derives from the
matching builtin, so that callers may catch either, and carries a stable `exit_code` for the command
line. The message says what was seen and what was expected; `hint` says what to do about it.
`assert` is kept for our own invariants.
"""

from __future__ import annotations


class VsrError(Exception):
    """Root of all errors of this package.

    Args:
        message: one sentence: what was seen and what was expected.
        hint: what the user can do about it.
    """

    exit_code = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(VsrError, ValueError):
    """A flag, preset or configuration file is wrong, or the flags contradict each other."""

    exit_code = 2


class OtherDeviceError(ConfigError):
    """An unfinished run was planned for a device that gives other bits than this one."""


class MediaError(VsrError):
    """The input cannot be used."""

    exit_code = 3


class OpenError(MediaError, OSError):
    """The input is missing, not a regular file, not readable or not a known container."""


class NoVideoStreamError(MediaError, ValueError):
    """The input holds no video that could be decoded (cover art does not count)."""


class UnsupportedVideoError(MediaError, ValueError):
    """The video is readable but of a kind that cannot be processed without a silent loss."""


class DecodeError(MediaError, ValueError):
    """The video stream could not be decoded far enough to go on."""


class HardwareDecodeError(DecodeError):
    """A video card's decoder cannot be used or failed; the software decoder may still do."""


class ModelError(VsrError):
    """A model cannot be used."""

    exit_code = 4


class UnknownModelError(ModelError, LookupError):
    """No model of that name; the hint lists near names."""


class CheckpointError(ModelError, ValueError):
    """A weight file is missing, damaged, of another architecture or of another digest."""


class GuardError(ModelError, RuntimeError):
    """A model gave what cannot be a picture, and so did all that should take its place."""


class DeviceError(VsrError, RuntimeError):
    """The device asked for is absent or failed."""

    exit_code = 5


class DeviceMemoryError(DeviceError):
    """The smallest piece of work did not fit the device's memory."""


class OutputError(VsrError, OSError):
    """The result cannot be written."""

    exit_code = 6


class OutputHeldError(OutputError):
    """Another run is working on the same output."""


class OutputExistsError(OutputError, FileExistsError):
    """Something that is not ours is already at the output name."""


class EncodeError(OutputError):
    """The encoder refused the settings or a frame."""


class LossRefusedError(OutputError):
    """`--strict` was given and the container asked for would lose something of the source."""


class StorageError(VsrError, OSError):
    """An object store cannot be reached, or gave back something else than it was given."""

    exit_code = 6


class CheckFailedError(VsrError, RuntimeError):
    """The result is not the same film as the source; it stands under a `.rejected` name."""

    exit_code = 1


class ShapeError(VsrError, ValueError):
    """A tensor of the wrong shape was handed to one of our functions: the caller's bug."""


class JobCancelledError(VsrError, RuntimeError):
    """The user stopped the run; what is done is kept."""

    exit_code = 130
