"""A segment in, detections out; detections in order in, observations out."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np

from emotion import cuts, detect, video, weights
from emotion.classify import Classifier
from emotion.detect import Detector
from emotion.device import choose_device
from emotion.smooth import Smoother
from emotion.track import Tracker
from emotion.types import Detections, Float32, Frames, Int64, K, Observations, StateError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STATE_VERSION: Final = 1


class Analyser:
    """Both networks, loaded once: what it says depends on the segment and `model` alone.

    Calls from several threads wait for each other.
    """

    def __init__(
        self,
        *,
        detector: str = weights.DEFAULT_DETECTOR,
        emotion_model: str = weights.DEFAULT_EMOTION_MODEL,
        device: str = "auto",
        cache_dir: Path | None = None,
        longest_side_px: int | None = None,
        fps: float = 5.0,
        min_score: float = detect.MIN_SCORE,
    ) -> None:
        """Load the networks, fetching their weights if they are not in the cache.

        device: "auto", "cpu", "cuda" or "cuda:N". cache_dir: None for the user's cache folder.
        emotion_model: a name, or the path of an ONNX file with its card. longest_side_px, fps: of
        what `analyse_file` looks at; None for the size that the detector was made for.
        min_score: of a face, 0 to 1.
        Raises WeightsError, DeviceError, or ValueError for a number out of range.
        """
        faces, emotions = weights.detector_model(detector), weights.emotion_model(emotion_model)
        if longest_side_px is None:
            longest_side_px = faces.input_px
        if not fps > 0 or longest_side_px < 1 or not 0 <= min_score <= 1:
            raise ValueError(
                f"fps ({fps}) and longest_side_px ({longest_side_px}) must be positive, "
                f"and min_score ({min_score}) from 0 to 1"
            )
        chosen = choose_device(device)
        for model in (faces, emotions):
            weights.pull(model, cache_dir)
        self._detector = Detector(
            weights.load(faces, cache_dir), model=faces, device=chosen, min_score=min_score
        )
        self._classifier = Classifier.of(emotions, cache_dir=cache_dir, device=chosen)
        self._lock = Lock()
        self.model = f"{faces.name}+{emotions.name}"
        self.device = str(chosen)
        self.longest_side_px = longest_side_px
        self.fps = fps

    def analyse(self, frames: Frames) -> Detections:
        """Return the faces of the frames and what is on them."""
        with self._lock:
            faces = self._detector.detect(frames)
            probs = self._classifier.classify(frames, faces)
        return Detections(
            offset_s=frames.offset_s,
            histograms=cuts.histograms(frames.images),
            faces=faces,
            probs=probs,
        )

    def analyse_file(self, path: Path) -> Detections:
        """Return the detections of one segment's file. Raises VideoError."""
        return self.analyse(
            video.read_frames(path, fps=self.fps, longest_side_px=self.longest_side_px)
        )


class Linker:
    """Segments of one broadcast, in order: who is who over time, and the smoothed history."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        """Start a broadcast, or go on exactly where `state` was taken.

        Raises StateError for a foreign state.
        """
        self._tracker = Tracker()
        self._smoother = Smoother()
        self._histogram: Float32 | None = None
        if state is None:
            return
        if state.get("version") != _STATE_VERSION:
            raise StateError(
                f"the stored state of tracks has version {state.get('version')!r}, and this "
                f"showmood reads {_STATE_VERSION}: analyse the broadcast again from its start"
            )
        try:
            self._tracker = Tracker.from_state(state["tracker"])
            self._smoother = Smoother.from_state(state["smoother"])
            if state["histogram"] is not None:
                self._histogram = np.array(state["histogram"], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as e:
            raise StateError(f"not a stored state of tracks: {e!r}") from e

    @property
    def state(self) -> dict[str, Any]:
        """Return all that the next segment needs, for JSON; some kilobytes."""
        return {
            "version": _STATE_VERSION,
            "tracker": self._tracker.state,
            "smoother": self._smoother.state,
            "histogram": None if self._histogram is None else self._histogram.tolist(),
        }

    def update(self, detections: Detections, start: datetime) -> Observations:
        """Return the observations of the segment whose first video frame is at `start`.

        start: aware UTC, after the segments before. All tracks end at a shot cut (also at one
        between two segments) and at a hole of more than `track.MAX_AGE_S`.
        """
        if start.utcoffset() != timedelta(0):
            raise ValueError(f"start must be aware UTC, not {start!r}")
        faces = detections.faces
        start_us = (start - _EPOCH) // timedelta(microseconds=1)
        frame_us = start_us + np.rint(detections.offset_s * 1e6).astype(np.int64)
        bounds = np.searchsorted(faces.frame, np.arange(len(frame_us) + 1))
        track = np.zeros(len(faces), dtype=np.int64)
        smoothed = np.zeros((len(faces), K), dtype=np.float32)
        for i, ts_us in enumerate(frame_us.tolist()):
            rows = slice(bounds[i], bounds[i + 1])
            self._see(detections.histograms[i])
            track[rows] = self._tracker.update(ts_us, faces.boxes[rows])
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
        )

    def _see(self, histogram: Float32) -> None:
        """End all tracks if this frame is another shot than the one before."""
        before = self._histogram
        if before is not None and cuts.difference(before, histogram) > cuts.CUT:
            self._tracker.reset()
        self._histogram = histogram
