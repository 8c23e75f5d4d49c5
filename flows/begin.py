"""Prefect's engine for one run, as a worker of the embedded stack starts it: `-m flows.begin`."""

import gc
import runpy
import signal
from typing import Final

OBJECTS: Final = 50_000
"""Objects allocated before the garbage collector runs: what is imported stays, and half a second of
a start went into finding that out."""

if __name__ == "__main__":
    signal.signal(
        signal.SIGUSR1, signal.SIG_IGN
    )  # until the flow hears it (flows/live/locking/handover_signal.py)
    gc.set_threshold(OBJECTS)
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
