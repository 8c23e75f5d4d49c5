"""Stores a segment, with retries after transient errors."""

import logging
import random
import time
from datetime import UTC
from typing import Final

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from db.errors import DatabaseRefused, DatabaseUnreachable
from db.session import LOST, explain, redact
from db.writing.copying import months
from db.writing.replacement import LOCK_TIMEOUT, SET_LOCK_TIMEOUT, PartitionMissing, replace_rows
from db.writing.rows import ObservationRows, SegmentRow, StoredCounts

_log = logging.getLogger(__name__)

ATTEMPTS: Final = 4
FIRST_PAUSE_S: Final = 0.05
"""Pause before the second attempt in seconds; each further one is four times as long."""

SERIALISATION: Final = ("40001", "40P01")
"""SQLSTATE of a serialisation failure and of a deadlock."""


def replace_segment(
    engine: Engine, segment: SegmentRow, observations: ObservationRows
) -> StoredCounts:
    """Store an analysed segment: afterwards its range of time has exactly these observations.

    Idempotent. The whole transaction is retried a few times within about a second, after a lost
    connection or a conflict. A missing partition is created first, in its own transaction.
    Rows of other broadcasts of the channel in that range are replaced too, because the key
    is the source's clock. Raise DatabaseUnreachable, DatabaseBusy, DatabaseRefused or
    UnknownChannel, with nothing written.
    """
    pause_s = FIRST_PAUSE_S
    attempt = 1
    made_partitions = 0
    while True:
        try:
            # At a stricter level, a transaction that waited for the lock would not see the
            # rows of its previous holder.
            with (
                engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
                connection.begin(),
            ):
                return replace_rows(connection, segment, observations)
        except PartitionMissing:
            if made_partitions == ATTEMPTS:  # maintenance may drop old ones again
                raise DatabaseRefused(
                    f"the partitions of {redact(engine.url)} are in another schema than its "
                    "tables: set the same search_path for all its users"
                ) from None
            _make_partitions(engine, observations)
            made_partitions += 1
            continue
        except DatabaseUnreachable as error:
            if attempt == ATTEMPTS:
                raise
            cause: Exception = error
        except DBAPIError as error:
            if attempt == ATTEMPTS or not _is_transient(error):
                if (known := explain(engine.url, error)) is not None:
                    raise known from error
                raise
            cause = error
        _log.warning("storing a segment failed at attempt %d, will retry: %s", attempt, cause)
        time.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s *= 4
        attempt += 1


def _is_transient(error: DBAPIError) -> bool:
    code = getattr(error.orig, "pgcode", None) or ""
    if code == "23514":  # also raised if the row's partition has just been dropped
        diagnostics = getattr(error.orig, "diag", None)
        return getattr(diagnostics, "table_name", None) == "observations"
    return error.connection_invalidated or code.startswith(LOST) or code in SERIALISATION


def _make_partitions(engine: Engine, observations: ObservationRows) -> None:
    with engine.begin() as connection:
        connection.execute(SET_LOCK_TIMEOUT, {"timeout": LOCK_TIMEOUT})
        for month in months(observations):
            begin = month.astype("datetime64[us]").item().replace(tzinfo=UTC)
            connection.execute(text("SELECT observations_partition(:at)"), {"at": begin})
