"""A watched show in the Prefect UI: the run's state, its progress, its report.

Updated on its own thread, as a slow server or picture must not block the show.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.objects import StateType
from prefect.states import Running
from sqlalchemy import Engine

from emotion.types import Observations
from flows.capture.segment import Gap, Segment
from flows.live.rows.observers import Observer

if TYPE_CHECKING:
    from flows.live.rows.analysis import Counts

EVERY_S: Final = 60.0
"""Seconds between two updates; each adds rows to the server's database."""

FIRST_UPDATE_S: Final = 5.0
"""Seconds from the first segment to the first update; each pause after it is twice as long, up to
EVERY_S."""

QUIET_S: Final = 15.0
"""Seconds without a segment after which the run's message reports it."""

FINAL_UPDATE_TIMEOUT_S: Final = 6.0
"""Seconds that the end of a run waits for its last report; a cancelled run is killed after 30."""

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


@dataclass(kw_only=True)
class RunPage(Observer):
    """Keeps a run's page in the UI up to date, from the first state to the last report.

    channel: its slug. run_id: of the flow run. machine: this one's name in the database.
    """

    channel: str
    run_id: UUID
    log: Log
    machine: str | None = None
    every_s: float = EVERY_S
    final_update_timeout_s: float = FINAL_UPDATE_TIMEOUT_S
    first_update_s: float = FIRST_UPDATE_S
    _message: str | None = field(default=None, init=False)
    _counts: "Counts | None" = field(default=None, init=False)
    _updated_at: float = field(default=0.0, init=False)
    _engine: Engine | None = field(default=None, init=False)
    _started_at: datetime | None = field(default=None, init=False)
    _planned_end: datetime | None = field(default=None, init=False)
    _oldest: datetime | None = field(default=None, init=False)
    _newest: datetime | None = field(default=None, init=False)
    _status: str = field(default="live", init=False)
    _changed: threading.Event = field(default_factory=threading.Event, init=False)
    _over: bool = field(default=False, init=False)
    _ends_at: float = field(default=0.0, init=False)
    _silent: bool = field(default=False, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _artifacts: dict[str, UUID] = field(default_factory=dict, init=False)

    # -- the observer's methods; they don't block

    def waiting(self, until: datetime | None) -> None:
        """Show in the run's state that it waits."""
        when = f" until {until:%H:%M} UTC" if until else ""
        self._set_message(f"waiting for the show{when}")

    def began(self, engine: Engine, started_at: datetime, planned_end: datetime) -> None:
        """Show in the run's state that recording has begun, and start the updates."""
        self._engine, self._started_at, self._planned_end = engine, started_at, planned_end
        self._set_message("recording; the networks are being loaded")

    def took(
        self, item: Segment | Gap, observations: Observations | None, counts: "Counts"
    ) -> None:
        """Keep the values for the next update."""
        first = self._counts is None
        self._counts, self._updated_at, self._newest = counts, time.monotonic(), item.end
        self._oldest = min(self._oldest or item.start, item.start)
        if first:
            self._changed.set()

    def ended(self, status: str) -> None:
        """Write the last report; wait for it at most final_update_timeout_s."""
        self._status = status
        self.close()

    def close(self) -> None:
        """Stop reporting; idempotent. The first call waits for the last report."""
        if not self._over:
            self._ends_at = time.monotonic() + self.final_update_timeout_s
        self._over = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join(max(0.0, self._ends_at - time.monotonic()))
        self._silent = True

    def summary(self) -> str | None:
        """Return the message for the run's state."""
        counts = self._counts
        if counts is None:
            return self._message
        segments = "1 segment" if counts.segments == 1 else f"{counts.segments} segments"
        gaps = f", {counts.gaps} gaps" if counts.gaps else ""
        quiet_s = time.monotonic() - self._updated_at
        if quiet_s > QUIET_S:
            return f"nothing new for {quiet_s:.0f} s; {segments} so far{gaps}"
        lag = f", {counts.lag_s:.1f} s behind" if counts.lag_s is not None else ""
        return f"live, {segments}{lag}{gaps}"

    def share(self) -> float:
        """Return the passed share of the planned time, in percent."""
        begin = self._begin()
        if begin is None or self._started_at is None or self._planned_end is None:
            return 0.0
        planned = (self._planned_end - self._started_at) / timedelta(seconds=1)
        passed = ((self._newest or begin) - begin) / timedelta(seconds=1)
        return round(100 * min(1.0, max(0.0, passed / planned)), 1)

    def _begin(self) -> datetime | None:
        """Return the show's start; its first segment may be earlier than the broadcast's row."""
        if self._started_at is None or self._oldest is None:
            return self._started_at
        return min(self._started_at, self._oldest)

    def _set_message(self, message: str) -> None:
        self._message = message
        if self._thread is None:
            # With the context variables: they hold the server's URL.
            run = partial(copy_context().run, self._run)
            self._thread = threading.Thread(target=run, name=f"run_page-{self.channel}")
            self._thread.daemon = True
            self._thread.start()
        self._changed.set()

    # -- the thread

    def _run(self) -> None:
        pause_s = self.first_update_s
        shown: str | None = None
        with get_client(sync_client=True) as client:
            while not self._over:
                self._changed.wait(min(pause_s, self.every_s))
                self._changed.clear()
                if self._over:
                    break
                message = self.summary()
                if message != shown and self._try("the state", self._setting(client, message)):
                    shown = message
                self._try("the progress", lambda: self._set_progress(client))
                if self._counts:
                    self._try("the report", lambda: self._set_report(client))
                    pause_s = min(2 * pause_s, self.every_s)
            if self._counts:
                self._try("the report", lambda: self._set_report(client))
                self._try("the progress", lambda: self._set_progress(client))

    def _try(self, what: str, update: Callable[[], None]) -> bool:
        if self._silent:
            return False
        try:
            update()
        except Exception as e:  # noqa: BLE001 - an error in the UI must not end the show
            self.log.warning("%s could not be shown in the UI: %r", what, e)
            return False
        return True

    def _setting(self, client: SyncPrefectClient, message: str | None) -> Callable[[], None]:
        return lambda: self._set_state(client, message)

    def _set_state(self, client: SyncPrefectClient, message: str | None) -> None:
        """Set only the message of a running run's state, without force.

        The server refuses it for a run that is being cancelled.
        """
        run = client.read_flow_run(self.run_id)
        if run.state_type == StateType.RUNNING and not self._over:
            client.set_flow_run_state(self.run_id, Running(message=message))

    def _set_progress(self, client: SyncPrefectClient) -> None:
        if self._started_at is None or self._planned_end is None:
            return
        planned = f"{self._started_at:%H:%M} to {self._planned_end:%H:%M} UTC"
        description = f"{self.channel}, planned {planned}"
        self._put(client, "progress", "progress", description, self.share())

    def _set_report(self, client: SyncPrefectClient) -> None:
        begin, now = self._begin(), datetime.now(UTC)
        if self._engine is None or begin is None:
            return
        from flows.report.text import markdown  # imported here: matplotlib takes a second

        with self._engine.connect() as connection:
            until = max(now, self._newest or now)
            text = markdown(
                connection,
                self.channel,
                begin,
                until,
                status=self._status,
                page_url=os.environ.get("SHOWMOOD_PAGE_URL"),
                machine=self.machine,
            )
        description = f"{self.channel}: mood, tracks, and further steps"
        self._put(client, "markdown", "show", description, text)

    def _put(
        self,
        client: SyncPrefectClient,
        kind: str,
        key: str,
        description: str,
        data: str | float,
    ) -> None:
        """Create the run's artifact of this kind, or update it."""
        if kind in self._artifacts:
            client.update_artifact(self._artifacts[kind], ArtifactUpdate(data=data))
            return
        self._artifacts[kind] = client.create_artifact(
            ArtifactCreate(
                type=kind,
                key=f"{key}-{self.channel}",
                description=description,
                data=data,
                flow_run_id=self.run_id,
            )
        ).id
