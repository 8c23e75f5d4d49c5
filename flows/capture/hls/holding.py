"""Decides whether to use blocking playlist reload with a server."""

from typing import Final

from flows.capture.playlists.playlist import Playlist

_TARGETS: Final = 3
"""Target durations that a server may hold a request for (RFC 8216bis, 6.2.5.2)."""

_MAX_VAIN: Final = 2
"""Consecutive blocking reloads without a new segment after which they are not used again."""


class Holding:
    """Keeps which segment to wait for, if the source supports that reliably."""

    def __init__(self) -> None:
        """Nothing is offered yet."""
        self.until: int | None = None
        """The number of the segment to wait for; None: do not block."""
        self.held_s = 0.0
        self._n_vain = 0

    def answered(self, playlist: Playlist, *, until: int | None, grew: bool) -> None:
        """Note a playlist; until: the segment that was waited for."""
        if until is not None:
            self._n_vain = 0 if grew else self._n_vain + 1
        offered = playlist.can_block_reload and playlist.numbered and not playlist.ended
        is_kept = offered and bool(playlist.entries) and self._n_vain < _MAX_VAIN
        self.until = playlist.sequence + len(playlist.entries) if is_kept else None
        self.held_s = _TARGETS * playlist.target_s

    def failed(self, *, until: int | None) -> None:
        """Note that a reload failed: the next one does not block."""
        self._n_vain += until is not None
        self.until = None
