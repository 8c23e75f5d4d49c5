"""Deletes the oldest copies in the object store when they are too old or too many."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Engine

from db.objects import forget_copies, oldest_copies, total_bytes
from flows.capture.recorded.audio import FOLDER, heir_of, in_order, owner_of
from flows.capture.recorded.runs import PIECE

if TYPE_CHECKING:
    from flows.objects.store import Objects

_BATCH: Final = 500


def _delete_audio(objects: "Objects", keys: Iterable[str]) -> None:
    """Delete the audio of files of pictures that are gone, but what reaches into others."""
    gone: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        gone[key.rpartition("/")[0]].add(Path(key).stem)
    for folder, own in gone.items():
        audio = in_order(map(Path, objects.keys_below(f"{folder}/{FOLDER}")))
        if not audio:
            continue
        names = [key.rpartition("/")[2] for key in objects.keys_below(folder)]
        left = sorted(Path(name).stem for name in names if PIECE.fullmatch(name))
        before = sorted({*left, *own})
        for each in list(audio):
            if owner_of(each, before) in own and heir_of(each, audio, left) is None:
                objects.delete(each.path.as_posix())


def roll_store(
    engine: Engine,
    objects: "Objects",
    *,
    now: datetime,
    days: float | None,
    most_bytes: int | None,
) -> tuple[int, int]:
    """Delete the oldest copies until they are within limits; return how many, and their bytes.

    Kept and unanalysed recordings stay. An object is deleted before its row says so: after a crash
    the next pass does it again. Raises StoreError, DatabaseError.
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
        _delete_audio(objects, due)
        with engine.begin() as connection:
            forget_copies(connection, list(due))
        n_files, n_bytes = n_files + len(due), n_bytes + sum(due.values())
