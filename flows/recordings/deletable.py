"""Which recordings are safe to delete.

Files whose analysis the database has on record, and files of a broadcast that is over which
nothing refers to.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from db.keeping import kept_among
from db.objects import copied
from db.reading import recordings as rows
from db.reading.recordings import RecordedBroadcast
from flows.capture.recorded import playback_playlists
from flows.recordings.finding import WAITING
from flows.recordings.inventory import Folder, Inventory

OVERDUE: Final = timedelta(days=1)
"""A broadcast whose planned end is longer ago is over, whatever its row says; a file without a row
is kept for this time."""


@dataclass(kw_only=True, slots=True)
class Claims:
    """The files of an inventory that are still needed at `now` (aware); made for each pass.

    copied_only: a file with a row is needed until it has a copy in the object store.
    """

    engine: Engine
    inventory: Inventory
    now: datetime
    copied_only: bool = False
    _known: dict[Path, "Standing"] = field(default_factory=dict, init=False)

    def unclaimed(self, files: Sequence[tuple[Path, str]]) -> dict[Path, set[str]]:
        """Return which of these files (folder and name) are safe to delete, by folder."""
        names: dict[Path, list[str]] = defaultdict(list)
        for path, name in files:
            names[path].append(name)
        may_go: dict[Path, set[str]] = {}
        for path, there in names.items():
            folder = self.inventory.folders[path]
            standing = self.of(folder)
            with self.engine.connect() as connection:
                statuses = rows.statuses(connection, folder.broadcast, there)
                kept = kept_among(connection, folder.broadcast, there)
                if self.copied_only:
                    kept |= statuses.keys() - copied(connection, folder.broadcast)
            listed = playback_playlists.names_in(standing.playlist) if standing.playlist else set()
            may_go[path] = {
                name
                for name in there
                if name not in listed
                and name not in kept
                and _is_settled(
                    statuses.get(name),
                    over=standing.over,
                    age=self.now.timestamp() - folder.files[name][0],
                )
            }
        return may_go

    def of(self, folder: Folder) -> "Standing":
        """Return the state of a broadcast's folder."""
        if folder.path not in self._known:
            self._known[folder.path] = self._look(folder)
        return self._known[folder.path]

    def _look(self, folder: Folder) -> "Standing":
        with self.engine.connect() as connection:
            broadcast = rows.broadcasts(connection, [folder.broadcast]).get(folder.broadcast)
        known = broadcast is not None and folder.is_of(broadcast)
        running = known and broadcast is not None and _may_run(broadcast, self.now)
        waits = any(folder.path.glob(f"{WAITING}/*.npz"))
        return Standing(
            known=known,
            over=not running and not waits and not folder.is_recorded_to(),
            playlist=folder.newest_playlist() if running or folder.is_recorded_to() else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A folder's state.

    known: the database knows its broadcast. over: it is not recorded or analysed any more.

    playlist: the one that the running capture writes for players, if there is one.
    """

    known: bool
    over: bool
    playlist: Path | None


def _may_run(broadcast: RecordedBroadcast, now: datetime) -> bool:
    """Return whether a broadcast is on air, or may be continued."""
    end = broadcast.planned_end or broadcast.started_at
    return broadcast.status == "live" and now < end + OVERDUE


def _is_settled(status: str | None, *, over: bool, age: float) -> bool:
    if status is None:
        return over and age > OVERDUE.total_seconds()
    return status != "recorded"
