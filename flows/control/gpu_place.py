"""A show's place on a shared GPU: Prefect's concurrency limit `gpu` says how many there are."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prefect.concurrency.sync import concurrency

from flows.control.healing import GPU
from flows.settings import Settings

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]

LEASE_S: Final = 120
"""Seconds after which the place of a dead holder is free again, at most."""


@contextmanager
def gpu_place(settings: Settings, log: Log) -> Iterator[None]:
    """Hold one place for as long as this lasts, where the networks run on CUDA.

    Waits for one; the show is recorded meanwhile. Once held it is kept also when the server is
    away for longer than the lease: a show is worth more than the limit. Raises Prefect's
    ConcurrencySlotAcquisitionError where there is no such limit.
    """
    from emotion.device import choose_device  # seconds

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
