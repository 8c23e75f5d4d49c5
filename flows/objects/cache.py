"""Disk cache of the object store: a bounded folder, least recently used files deleted first."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flows.objects.errors import ObjectGone

if TYPE_CHECKING:
    from flows.objects.store import Objects

IN_USE_S: Final = 600.0
"""Seconds since its last use in which a file is not deleted: it may be being read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Copies:
    """Reads objects through a cache folder of at most limit_bytes."""

    objects: "Objects"
    directory: Path
    limit_bytes: int
    _expected: dict[Path, tuple[str, str | None]] = field(default_factory=dict)

    def expect(self, key: str, sha256: str | None) -> Path:
        """Return the path of an object's copy; nothing is fetched yet."""
        path = self.directory / key
        self._expected[path] = (key, sha256)
        return path

    def bring(self, path: Path, needs: tuple[str, ...] = ()) -> None:
        """Fetch a file given to `expect`, and the files beside it that it needs, if not cached.

        A path outside the cache folder is ignored. Raises StoreError, OSError.
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
                    raise  # a needed file may be deleted by age: the first pictures are damaged

    def bring_some(self, folder: Path, choose: Callable[[list[Path]], Iterable[Path]]) -> None:
        """Have those objects here that are chosen of all whose copies lie in a folder.

        Raises as `bring`.
        """
        if not folder.is_relative_to(self.directory):
            return
        keys = self.objects.keys_below(folder.relative_to(self.directory).as_posix())
        for path in choose([self.directory / key for key in keys]):
            self.bring(path)

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
