"""Server-sent events of what is new on air: one poller for each channel that has listeners."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import text

from db.errors import DatabaseError
from db.tables.shows import EMOTIONS
from flows.page.reading.chunks import columns
from flows.page.reading.database import Reader
from flows.page.reading.show_queries import rows

_log = logging.getLogger(__name__)

MAX_STREAMS: Final = 200
POLL_S: Final = 1.0
HEARTBEAT_S: Final = 15.0
BACK_S: Final = 20
"""Each message repeats this many seconds, so that a lost message loses no data."""

_NEWEST = text(
    "SELECT b.broadcast_id, b.status, s.ended_at AS until, s.lag_ms FROM (SELECT * FROM shows"
    " WHERE channel = :channel ORDER BY started_at DESC LIMIT 1) b"
    " LEFT JOIN LATERAL (SELECT ended_at, lag_ms FROM show_segments"
    "  WHERE broadcast_id = b.broadcast_id AND status <> 'recorded'"
    "  ORDER BY started_at DESC LIMIT 1) s ON true"
)


class TooMany(Exception):
    """The limit of streams is reached."""


@dataclass(kw_only=True, slots=True)
class _Channel:
    """A channel's listeners, and the last message that they were sent."""

    queues: set[asyncio.Queue[str]] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    message: str = ""
    mark: object = None


class Hub:
    """Streams of events; a slow listener gets the newest message only."""

    def __init__(
        self, reader: Callable[[], Reader], *, most: int = MAX_STREAMS, poll_s: float = POLL_S
    ) -> None:
        """Poll nothing yet."""
        self._reader, self._most, self._poll_s = reader, most, poll_s
        self._channels: dict[str, _Channel] = {}
        self.n_streams = 0
        self.n_polls = 0

    def take(self) -> None:
        """Reserve a stream; raises TooMany. `listen` releases it."""
        if self.n_streams >= self._most:
            raise TooMany
        self.n_streams += 1

    async def listen(self, channel: str) -> AsyncIterator[bytes]:
        """Yield events of a channel until the listener goes away."""
        queue: asyncio.Queue[str] = asyncio.Queue(maxsize=1)
        known = self._channels.setdefault(channel, _Channel())
        known.queues.add(queue)
        if known.message:
            queue.put_nowait(known.message)
        if known.task is None:
            known.task = asyncio.create_task(self._keep_polling(channel, known))
        try:
            yield b"retry: 2000\n\n"
            while True:
                try:
                    message = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                    yield f"data: {message}\n\n".encode()
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self.n_streams -= 1
            known.queues.discard(queue)
            if not known.queues and known.task is not None:
                known.task.cancel()
                self._channels.pop(channel, None)

    async def _keep_polling(self, channel: str, known: _Channel) -> None:
        while True:
            try:
                message = await asyncio.to_thread(self._poll, channel, known)
            except DatabaseError as error:
                message = json.dumps({"problem": str(error)})
            except Exception:  # noqa: BLE001 - else listeners would wait without an error
                _log.exception("the newest data of %s could not be read", channel)
                message = json.dumps({"problem": "an internal error: see the page's log"})
            if message is not None and message != known.message:
                known.message = message
                for queue in known.queues:
                    if queue.full():
                        queue.get_nowait()
                    queue.put_nowait(message)
            await asyncio.sleep(self._poll_s)

    def _poll(self, channel: str, known: _Channel) -> str | None:
        self.n_polls += 1
        with self._reader().connect() as connection:
            row = connection.execute(_NEWEST, {"channel": channel}).one_or_none()
            if row is None:
                return None
            mark = (row.broadcast_id, row.status, row.until)
            if mark == known.mark:
                return None
            message: dict[str, Any] = {
                "broadcast": row.broadcast_id,
                "status": row.status,
                "lag_ms": row.lag_ms,
                "until": None,
            }
            if row.until is not None:
                until = row.until.astimezone(UTC)
                since = until - timedelta(seconds=BACK_S)
                found = rows(
                    connection,
                    "seconds",
                    channel=channel,
                    id=row.broadcast_id,
                    since=since,
                    until=until,
                )
                message |= {"until": round(until.timestamp() * 1000)}
                message |= {"seconds": columns(found, datetime.fromtimestamp(0, UTC))}
                if found:
                    last = found[-1]
                    shares = {name: getattr(last, name) or 0.0 for name in EMOTIONS}
                    message |= {
                        "emotion": max(shares, key=shares.__getitem__),
                        "faces": last.tracks,
                    }
            known.mark = mark
        return json.dumps(message, separators=(",", ":"))
