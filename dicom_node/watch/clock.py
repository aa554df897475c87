"""Whether somebody sets the clock of this machine: what the kernel says, as `timedatectl` asks it (adjtimex(2))."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Final

_UNSYNCHRONISED: Final = 0x0040
"""STA_UNSYNC of <sys/timex.h>; also set where nobody ever set the clock."""
_MICRO: Final = 1e-6


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex``; the kernel writes beyond it, into the padding."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


@dataclass(frozen=True, slots=True)
class Clock:
    """Whether the clock follows another one, and how far it may be off at most.

    Attributes
    ----------
    synchronised
        None where the kernel does not say.
    most_off_s
        Holds for a clock that is synchronised.
    """

    synchronised: bool | None
    most_off_s: float = 0.0


def read_clock() -> Clock:
    """Return what the kernel knows of the clock."""
    told = _Timex()
    if ctypes.CDLL(None).adjtimex(ctypes.byref(told)) < 0:
        return Clock(None)
    return Clock(not told.status & _UNSYNCHRONISED, told.maxerror * _MICRO)
