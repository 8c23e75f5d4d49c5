"""Copies in the object store roll: the oldest go when they are too old, or too many."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine

from db.objects import forget_copies, oldest_copies, total_bytes
from flows.capture.recorded.audio import FOLDER, NAME
from flows.objects.store import Objects

_BATCH: Final = 500


def _audio_keys_of(objects: Objects, keys: Iterable[str]) -> Iterator[str]:
    """Give the keys of the audio that was recorded beside files of pictures."""
    stems: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        folder, _, name = key.rpartition("/")
        stems[folder].add(name.partition(".")[0])
    for folder, own in stems.items():
        for key in objects.keys_below(f"{folder}/{FOLDER}"):
            found = NAME.fullmatch(key.rpartition("/")[2])
            if found and found["piece"] in own:
                yield key


def roll_store(
    engine: Engine,
    objects: Objects,
    *,
    now: datetime,
    days: float | None,
    most_bytes: int | None,
) -> tuple[int, int]:
    """Delete the oldest copies until they are within limits; return how many, and their bytes.

    What is kept stays, and what was not analysed. An object goes before its row says so: should
    this be cut off, the next pass does it again. Raises StoreError, DatabaseError.
    """
    cut = now - timedelta(days=days) if days else None
    with engine.connect() as connection:
        over = total_bytes(connection) - most_bytes if most_bytes else 0
    n_files = n_bytes = 0
    while True:
        with engine.connect() as connection:
            batch = oldest_copies(connection, _BATCH)
        due: dict[str, int] = {}
        for each in batch:
            if not ((cut is not None and each.started_at < cut) or over > 0):
                break
            if each.object_key not in due:
                over -= each.size_bytes
            due[each.object_key] = each.size_bytes
        if not due:
            return n_files, n_bytes
        for key in due:
            objects.delete(key)
        for key in _audio_keys_of(objects, due):
            objects.delete(key)
        with engine.begin() as connection:
            forget_copies(connection, list(due))
        n_files, n_bytes = n_files + len(due), n_bytes + sum(due.values())
