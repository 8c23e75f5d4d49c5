"""The local HLS playlist of the newest recorded segments."""

from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import Final

from flows.capture.recorded.recording import Recording
from flows.capture.state import write_whole

_CUT: Final = "#EXT-X-DISCONTINUITY"

_LISTED: Final = 30
"""Most segments in the playlist."""


class RollingPlaylist:
    """A run's playlist of the newest segments, rewritten with each."""

    def __init__(self, recording: Recording, run: str) -> None:
        """Keep the arguments; nothing is written yet."""
        self._recording, self._name = recording, f"{run}.m3u8"
        self._listed: deque[str] = deque(maxlen=_LISTED)
        self._added = 0
        self._cuts_gone = 0

    def add(
        self,
        path: Path,
        *,
        duration: timedelta,
        target_s: float,
        discontinuity: bool,
        head_bytes: int | None,
    ) -> None:
        """Add a finished file.

        head_bytes: size of its initialisation section; None: it has none.
        """
        lines = [f"#EXTINF:{duration.total_seconds():.6f},"]
        if discontinuity:
            lines.insert(0, _CUT)
        if head_bytes:
            size = path.stat().st_size
            lines.insert(0, f'#EXT-X-MAP:URI="{path.name}",BYTERANGE="{head_bytes}@0"')
            lines.append(f"#EXT-X-BYTERANGE:{size - head_bytes}@{head_bytes}")
        if len(self._listed) == _LISTED:
            self._cuts_gone += _CUT in self._listed[0].splitlines()
        self._listed.append("\n".join([*lines, path.name]))
        self._added += 1
        target = max(1, round(max(target_s, duration.total_seconds())))
        first = self._added - len(self._listed)
        text = [f"#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target}"]
        text += [f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        text += [f"#EXT-X-DISCONTINUITY-SEQUENCE:{self._cuts_gone}", *self._listed, ""]
        write_whole(self._recording.directory / self._name, "\n".join(text), durable=False)
