"""What a signal means: the first one stops in an orderly way, the second at once.

Either leaves what can be gone on with, because a run may be killed at any moment.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AT_ONCE = b"\nvsr: stopped at once; the same command goes on from what was finished\n"


class Stopped(KeyboardInterrupt):
    """The user, or the system, wants the program to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Stopper:
    """Hears the signals of one process."""

    def __init__(self) -> None:
        self.number: int | None = None
        """Of the first signal that came."""

    def listen(self) -> None:
        """Hear them from now on, but for those that whoever started us had ignored."""
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)

    def is_asked(self) -> bool:
        """Whether a signal came, also when its exception was lost in a destructor."""
        return self.number is not None

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            # Not even cleaning up may delay this. Children end with us, the lock too.
            try:
                os.write(2, _AT_ONCE)
            finally:
                os._exit(exit_code(number))
        self.number = number
        raise Stopped(number)


def exit_code(number: int) -> int:
    """As shells say it: 130 for an interrupt, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + number


STOPPER = Stopper()
"""Of this process; hears nothing before `listen`."""
