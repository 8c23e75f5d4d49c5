"""Copies of objects on this disk, while there is room: what was read last stays longest."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flows.objects.store import ObjectGone, Objects

IN_USE_S: Final = 600.0
"""Files that were used so recently stay, whatever their size: they may be being read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Copies:
    """Reads objects through a folder that holds so many bytes."""

    objects: Objects
    directory: Path
    limit_bytes: int
    _expected: dict[Path, tuple[str, str | None]] = field(default_factory=dict)

    def expect(self, key: str, sha256: str | None) -> Path:
        """Return where an object's copy will lie; nothing is fetched yet."""
        path = self.directory / key
        self._expected[path] = (key, sha256)
        return path

    def bring(self, path: Path, needs: tuple[str, ...] = ()) -> None:
        """Have a file that was expected here, and those beside it that it needs.

        A path that is none of ours is left. Raises StoreError, OSError.
        """
        if not path.is_relative_to(self.directory):
            return
        for each in (*(path.with_name(name) for name in needs), path):
            key, sha256 = self._expected.get(
                each, (each.relative_to(self.directory).as_posix(), None)
            )
            if each.is_file():
                os.utime(each)
                continue
            self._make_room()
            try:
                self.objects.get(key, each, sha256=sha256)
            except ObjectGone:
                if each == path:
                    raise  # what it needs may be gone for its age: it begins with torn pictures

    def _make_room(self) -> None:
        files = [each for each in self.directory.rglob("*") if each.is_file()]
        there = []
        for each in files:
            with suppress(FileNotFoundError):
                status = each.stat()
                there.append((status.st_mtime, status.st_size, each))
        over = sum(size for _, size, _ in there) - self.limit_bytes
        for modified, size, each in sorted(there):
            if over <= 0 or modified > time.time() - IN_USE_S:
                return
            each.unlink(missing_ok=True)
            over -= size
