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

ASK_AGAIN_S: Final = 1.0

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]
T = TypeVar("T")


def patiently(do: Callable[[], T], engine: Engine, *, patience: timedelta, log: Log) -> T:
    """Return what `do` gives, done again for so long as the database is away.

    do: what a failure leaves undone. Raises one of PASSING when that lasted too long.
    """
    give_up_at = time.monotonic() + patience.total_seconds()
    waited = False
    while True:
        try:
            return _mapped(do, engine)
        except PASSING as e:
            if time.monotonic() >= give_up_at:
                raise
            if not waited:
                until = datetime.now(UTC) + patience
                log.warning("%s; it is asked again until %s UTC", e, f"{until:%H:%M:%S}")
            waited = True
            time.sleep(ASK_AGAIN_S)


def _mapped(do: Callable[[], T], engine: Engine) -> T:
    try:
        return do()
    except DBAPIError as e:
        if (known := explain(engine.url, e)) is not None:
            raise known from e
        raise
