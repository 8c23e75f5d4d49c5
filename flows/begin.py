"""Prefect's engine for one run; workers of the embedded stack start it as `-m flows.begin`."""

import gc
import runpy
import signal
from typing import Final

GC_THRESHOLD_OBJECTS: Final = 50_000
"""Allocations between two garbage collections: imported modules are never freed, and collecting
while they are loaded took half a second of each start."""

if __name__ == "__main__":
    signal.signal(
        signal.SIGUSR1, signal.SIG_IGN
    )  # until the flow installs its handler (flows/live/locking/handover_signal.py)
    gc.set_threshold(GC_THRESHOLD_OBJECTS)
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
