"""Retries while the database is unreachable at the start of a watch, so that no show is lost."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from db.session import explain
from db.writing.spool import PASSING

RETRY_S: Final = 1.0
"""Seconds between two tries."""

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]
T = TypeVar("T")


def retry_on_outage(do: Callable[[], T], engine: Engine, *, max_wait: timedelta, log: Log) -> T:
    """Return the result of `do`, retried while the database is away, for at most max_wait.

    do: must have no effect when it fails. Raises one of PASSING after that time.
    """
    give_up_at = time.monotonic() + max_wait.total_seconds()
    waited = False
    while True:
        try:
            return _mapped(do, engine)
        except PASSING as e:
            if time.monotonic() >= give_up_at:
                raise
            if not waited:
                until = datetime.now(UTC) + max_wait
                log.warning("%s; retrying until %s UTC", e, f"{until:%H:%M:%S}")
            waited = True
            time.sleep(RETRY_S)


def _mapped(do: Callable[[], T], engine: Engine) -> T:
    try:
        return do()
    except DBAPIError as e:
        if (known := explain(engine.url, e)) is not None:
            raise known from e
        raise
