"""Analyser: a segment to detections. Linker: detections, in order, to observations."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import numpy as np

from emotion.analyser import Analyser
from emotion.linking import cuts
from emotion.linking.pose import pose
from emotion.linking.smooth import Smoother
from emotion.linking.track import MAX_AGE_S, Tracker
from emotion.types import Detections, Int64, K, Observations, StateError

__all__ = ["Analyser", "Linker"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STATE_VERSION: Final = 1


class Linker:
    """Tracking and smoothing over the segments of one broadcast, in order."""

    def __init__(self, state: dict[str, Any] | None = None, *, number_from: int = 1) -> None:
        """Start a broadcast, or continue exactly from `state`.

        number_from: smallest number of a new track. Raises StateError for an invalid state.
        """
        self._tracker = Tracker()
        self._smoother = Smoother()
        self._shots = cuts.Shots()
        self._seen_us: int | None = None
        if state is not None:
            self._restore(state)
        self._tracker.number_from(number_from)

    def _restore(self, state: dict[str, Any]) -> None:
        if state.get("version") != _STATE_VERSION:
            raise StateError(
                f"the stored state of tracks has version {state.get('version')!r}, and this "
                f"showmood reads {_STATE_VERSION}: analyse the broadcast again from its start"
            )
        try:
            self._tracker = Tracker.from_state(state["tracker"])
            self._smoother = Smoother.from_state(state["smoother"])
            self._shots = cuts.Shots.from_state(state["histogram"], state.get("usual"))
            self._seen_us = None if state.get("seen_us") is None else int(state["seen_us"])
        except (KeyError, TypeError, ValueError) as e:
            raise StateError(f"not a stored state of tracks: {e!r}") from e

    @property
    def state(self) -> dict[str, Any]:
        """Return the state for the next segment, JSON-serialisable, some kilobytes."""
        histogram, usual = self._shots.state
        return {
            "version": _STATE_VERSION,
            "tracker": self._tracker.state,
            "smoother": self._smoother.state,
            "histogram": histogram,
            "usual": usual,
            "seen_us": self._seen_us,
        }

    def update(self, detections: Detections, start: datetime) -> Observations:
        """Return the observations of the segment whose first video frame is at `start`.

        start: aware UTC, after the previous segments. All tracks end at a shot cut (also
        between two segments) and at a gap of more than `track.MAX_AGE_S`, after which a new
        shot begins too.
        """
        if start.utcoffset() != timedelta(0):
            raise ValueError(f"start must be aware UTC, not {start!r}")
        faces = detections.faces
        start_us = (start - _EPOCH) // timedelta(microseconds=1)
        frame_us = start_us + np.rint(detections.offset_s * 1e6).astype(np.int64)
        bounds = np.searchsorted(faces.frame, np.arange(len(frame_us) + 1))
        track = np.zeros(len(faces), dtype=np.int64)
        smoothed = np.zeros((len(faces), K), dtype=np.float32)
        shots: list[tuple[int, int | None]] = []
        for i, ts_us in enumerate(frame_us.tolist()):
            rows = slice(bounds[i], bounds[i + 1])
            boxes = faces.boxes[rows]
            stay = partial(self._tracker.faces_stay, ts_us, boxes)
            cut = self._shots.see(detections.histograms[i], faces_stay=stay)
            if cut:
                self._tracker.reset()
            if cut or self._seen_us is None or ts_us - self._seen_us > MAX_AGE_S * 1e6:
                shots.append((ts_us, self._seen_us))
            self._seen_us = ts_us
            track[rows] = self._tracker.update(ts_us, boxes)
            self._smoother.keep(self._tracker.numbers)
            smoothed[rows] = self._smoother.update(ts_us, track[rows], detections.probs[rows])
        order = np.lexsort((track, faces.frame))
        ts: Int64 = frame_us[faces.frame]
        return Observations(
            ts=ts[order].astype("datetime64[us]"),
            track=track[order],
            boxes=faces.boxes[order],
            scores=faces.scores[order],
            probs=detections.probs[order],
            smoothed=smoothed[order],
            affect=None if detections.affect is None else detections.affect[order],
            pose=pose(faces.landmarks[order]),
            frames=frame_us.astype("datetime64[us]"),
            shots=np.array([at for at, _ in shots], dtype="datetime64[us]"),
            seen_before=np.array(
                ["NaT" if before is None else np.datetime64(before, "us") for _, before in shots],
                dtype="datetime64[us]",
            ),
        )
