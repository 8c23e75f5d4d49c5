"""A small disk for recordings, which can be filled and made read-only: a tmpfs, as root."""

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

_BLOCK: Final = 1 << 16


class Disk:
    """A tmpfs mounted at a folder; without the right to mount, its faults are not possible."""

    def __init__(self, folder: Path, *, size_mb: int) -> None:
        """Mount it."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=755", "tmpfs", str(folder)]
        self.is_own = _runs(command)
        self._ballast = folder / ".ballast"

    def fill(self, *, leave_bytes: int = 0) -> bool:
        """Fill it up to this free space; return whether it was possible."""
        if not self.is_own:
            return False
        free = shutil.disk_usage(self.folder).free
        with self._ballast.open(
            "wb", buffering=0
        ) as file:  # otherwise close() would write, and fail
            try:
                for _ in range(max(0, free - leave_bytes) // _BLOCK + 1):
                    file.write(bytes(_BLOCK))
                    if shutil.disk_usage(self.folder).free <= leave_bytes:
                        break
            except OSError:
                pass
        return True

    def empty(self) -> None:
        """Free the space."""
        self._ballast.unlink(missing_ok=True)

    def protect(self) -> bool:
        """Make it read-only; return whether it was possible: not while a file is being written."""
        if not self.is_own:
            return False
        end = time.monotonic() + 3.0
        while not _runs(["mount", "-o", "remount,ro", str(self.folder)]):
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def unprotect(self) -> None:
        """Make it writable again."""
        _runs(["mount", "-o", "remount,rw", str(self.folder)])

    def close(self) -> None:
        """Unmount it."""
        if self.is_own:
            _runs(["umount", "-l", str(self.folder)])


def _runs(command: list[str]) -> bool:
    if os.geteuid() != 0 or shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Archive:
    """Copies recorded files as they appear, because retention may delete them before the audit."""

    def __init__(self, recordings: Path, folder: Path) -> None:
        """Begin."""
        self._recordings, self._folder = recordings, folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self._thread.start()

    def find(self, path: Path) -> Path:
        """Return the path of a recorded file's copy."""
        return self._folder / "-".join(path.parts[-3:])

    def close(self) -> None:
        """Copy the last files, and stop."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            over = self._over.wait(0.5)
            for path in self._recordings.glob("*/*/*.ts"):
                copy = self.find(path)
                if copy.exists():
                    continue
                part = copy.with_suffix(".part")
                try:
                    shutil.copyfile(path, part)
                except OSError:  # deleted, because it repeated recorded content
                    continue
                part.replace(copy)
            if over:
                return
