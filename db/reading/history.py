"""A channel's history row by row, however long: read in batches, in order, with bounded memory."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from db.models import AFFECT, EMOTIONS
from db.reading.queries import BEGINNING, END, channel_id

COLUMNS: Final = (
    "channel",
    "show",
    "ts",
    "track",
    "emotion",
    "score",
    "x0",
    "y0",
    "x1",
    "y1",
    *EMOTIONS,
    "broadcast_id",
    *AFFECT,
)
"""Those of the view `emotion_history`, in its order."""

BATCH_ROWS: Final = 5000

SLICE: Final = timedelta(days=1)
"""So that the server never has more than a day to sort."""

_ROWS = text(
    f"SELECT {', '.join(COLUMNS)} FROM emotion_history"
    " WHERE channel = :slug AND ts >= :since AND ts < :until ORDER BY ts, track"
)

_NEXT = text(
    "SELECT min(ts) FROM observations WHERE channel_id = :channel AND ts >= :since AND ts < :until"
)


def read_history(
    connection: Connection, slug: str, since: datetime | None = None, until: datetime | None = None
) -> Iterator[Sequence[Sequence[Any]]]:
    """Yield batches of rows of `emotion_history` (`COLUMNS`) in [since, until), by ts, then track.

    Nothing is yielded for an empty range. Raise UnknownChannel, or ValueError for a naive time.
    """
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise ValueError(f"{name} must be aware, not {moment!r}")
    number = channel_id(connection, slug)
    span = {"channel": number, "since": since or BEGINNING, "until": until or END}
    start = connection.scalar(_NEXT, span)
    while start is not None:
        stop = min(start + SLICE, span["until"])
        with connection.execution_options(stream_results=True, yield_per=BATCH_ROWS).execute(
            _ROWS, {"slug": slug, "since": start, "until": stop}
        ) as rows:
            yield from rows.partitions(BATCH_ROWS)
        start = connection.scalar(_NEXT, span | {"since": stop})
