"""A show's slot on a shared GPU, by Prefect's concurrency limit `gpu`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prefect.concurrency.sync import concurrency

from flows.control.healing import GPU
from flows.settings import Settings

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]

LEASE_S: Final = 120
"""Longest time in seconds until the slot of a dead holder is free again."""


@contextmanager
def gpu_place(settings: Settings, log: Log) -> Iterator[None]:
    """Hold a slot while the context lasts, if the networks run on CUDA.

    Waits for one; the show is recorded meanwhile. A held slot is kept even if the server is away
    for longer than the lease: a show matters more than the limit. Raises Prefect's
    ConcurrencySlotAcquisitionError if there is no such limit.
    """
    from emotion.device import choose_device  # imported here: takes seconds

    auto = settings.gpu_limit == "auto" and choose_device(settings.device).type == "cuda"
    if not auto and settings.gpu_limit != "always":
        yield
        return
    log.info("waiting for a place on the GPU")
    with concurrency(
        GPU,
        occupy=1,
        strict=True,
        lease_duration=LEASE_S,
        raise_on_lease_renewal_failure=False,
    ):
        log.info("has a place on the GPU")
        yield
