"""Another clock for a process and all that it starts, by Debian's package libfaketime."""

import subprocess
from pathlib import Path
from shutil import which
from typing import Final

FAKETIME: Final = next(
    (str(each) for each in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1") if which("cc")),
    None,
)
"""The library that gives a process another clock; None without it, or without a C compiler."""

_MONOTONIC_SLEEP: Final = """
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *rest)
{
    return syscall(SYS_clock_nanosleep, clock, flags, until, rest) == 0 ? 0 : errno;
}
"""
"""Sleeps by the monotonic clock, which stays unchanged: libfaketime 0.9.10 fails at that."""


def other_clock(folder: Path, *, ahead_s: int) -> dict[str, str]:
    """Return the environment variables for a process, and its children, with a clock ahead by this.

    folder: created, for a compiled library. Needs Debian's package libfaketime and a C compiler.
    """
    assert FAKETIME is not None
    folder.mkdir(exist_ok=True)
    library = folder / "monotonic_sleep.so"
    compiled = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(compiled, input=_MONOTONIC_SLEEP.encode(), check=True)
    # Timeouts must not depend on the changed clock.
    told = {"LD_PRELOAD": f"{library}:{FAKETIME}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return told | {"FAKETIME": f"{ahead_s:+d}s"}
