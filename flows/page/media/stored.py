"""Recordings that only the object store has: fetched to this disk when they are played.

It uses the cache of `play`, `clip` and `replay`, so that a browser connects only to the page. A
store that fails or is slow delays the page's other responses by a few seconds at most.
"""

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from flows.capture.recorded.audio import FOLDER, AudioFile, audio_of
from flows.objects.cache import Copies
from flows.objects.errors import ObjectGone, StoreError
from flows.page.media.playback import CopyGone, NotNow

AT_ONCE: Final = 6
"""Most copies that are fetched at once: the page's other answers need threads too."""

WAIT_S: Final = 8.0
PAUSE_S: Final = 5.0
"""Seconds without a request to a store that did not answer."""


class Stored:
    """The copies of recordings, as the page needs them."""

    def __init__(self, copies: Copies) -> None:
        """Fetch nothing yet."""
        self._copies = copies
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._away: tuple[float, str] | None = None

    def path(self, key: str) -> Path | None:
        """Return the path of an object's copy on this disk; None for an invalid key."""
        path = self._copies.directory / key
        return None if Path(key).is_absolute() or ".." in path.parts else path

    def audio_in(self, folder: Path) -> list[AudioFile]:
        """Return the separate audio files of a folder's copies; empty if the store has none."""
        below = f"{folder.relative_to(self._copies.directory).as_posix()}/{FOLDER}"
        keys: list[str] = []
        with suppress(StoreError):  # pictures are played without it
            keys = self._copies.objects.keys_below(below)
        paths = [path for key in keys if (path := self.path(key)) is not None]
        return [found for path in paths if (found := audio_of(path)) is not None]

    def bring_audio(self, path: Path) -> None:
        """Fetch the copy of a file of audio, if there is one. Raises NotNow."""
        with suppress(CopyGone):
            self.bring(path, path.relative_to(self._copies.directory).as_posix(), None)

    def bring(self, path: Path, key: str, sha256: str | None) -> None:
        """Fetch an object's copy to its path, if it is missing.

        Raises CopyGone where it is gone or was changed, NotNow where the store does not answer.
        """
        if path.is_file():
            self._copies.bring(path)  # so that it counts as used
            return
        away = self._away
        if away is not None and time.monotonic() < away[0]:
            raise NotNow(away[1])
        if not self._places.acquire(timeout=WAIT_S):
            raise NotNow("too many recordings are being fetched from the store: try again")
        try:
            self._copies.expect(key, sha256)
            self._copies.bring(path)
        except ObjectGone as e:
            raise CopyGone(f"the copy of this recording can't be played: {e}") from e
        except StoreError as e:
            self._away = (time.monotonic() + PAUSE_S, f"the recording is only in the store: {e}")
            raise NotNow(self._away[1]) from e
        except OSError as e:
            raise NotNow(f"the copy of this recording can't be written to this disk: {e}") from e
        finally:
            self._places.release()
