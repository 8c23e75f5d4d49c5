"""A segment in, detections out; detections in order in, observations out."""

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from emotion import cuts, detect, video, weights
from emotion.ahead import Ahead
from emotion.classify import Classifier
from emotion.decode import Skip
from emotion.detect import Detector
from emotion.device import choose_device
from emotion.smooth import Smoother
from emotion.track import Tracker
from emotion.types import Detections, Frames, Int64, K, Observations, StateError

Parts = Ahead[Frames]

_MAX_WORKERS: Final = 8
_MIN_FACES: Final = 4  # fewer at once cost more each
_PARTS_AHEAD: Final = 16
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STATE_VERSION: Final = 1


class Analyser:
    """Both networks, loaded once: what it says depends on the segment and `model` alone.

    Several threads may call it at once. On a CPU the frames of a segment are spread over threads
    that each work alone, while the next are decoded: threads that work on one picture together
    wait for each other, all the more where other programs want the cores too.
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
        on_cpu = chosen.type == "cpu"
        self._n_workers = min(_MAX_WORKERS, torch.get_num_threads()) if on_cpu else 1
        self._workers = ThreadPoolExecutor(
            self._n_workers,
            thread_name_prefix="analyse",
            initializer=torch.set_num_threads if on_cpu else None,
            initargs=(1,) if on_cpu else (),
        )
        self.model = f"{faces.name}+{emotions.name}"
        self.device = str(chosen)
        self.longest_side_px = longest_side_px
        self.fps = fps

    def analyse(self, frames: Frames) -> Detections:
        """Return the faces of the frames and what is on them."""
        _, height, width, _ = frames.images.shape
        step = max(1, self._detector.part_px() // max(1, height * width))
        firsts = range(0, len(frames), step) if len(frames) else range(1)
        return self.analyse_parts(_rows(frames, slice(first, first + step)) for first in firsts)

    def analyse_file(self, path: Path) -> Detections:
        """Return the detections of one segment's file. Raises VideoError."""
        return self.analyse_parts(self.decode(path))

    def decode(self, path: Path, *, fps: float | None = None, skip: Skip = "needless") -> Parts:
        """Begin to decode a segment's file; return what `analyse_parts` takes.

        fps: instead of the one that is set. To be closed if it is not used up.
        """
        return Ahead(
            lambda: video.read_parts(
                path,
                fps=fps or self.fps,
                longest_side_px=self.longest_side_px,
                part_px=self._detector.part_px(),
                skip=skip,
            ),
            depth=_PARTS_AHEAD,
        )

    def analyse_parts(self, parts: Iterable[Frames]) -> Detections:
        """Return the detections of a segment's frames, which come in parts, one at least.

        Faces are sought in a part as soon as it is there. Raises what comes with the parts.
        """
        found: list[tuple[Frames, Float32, Future[Faces]]] = []
        try:
            for part in parts:
                future = self._workers.submit(self._detector.detect, part)
                found.append((part, cuts.histograms(part.images), future))
            faces = _joined_faces([(len(part), future.result()) for part, _, future in found])
        finally:
            for *_, future in found:
                future.cancel()
        frames = _joined([part for part, *_ in found])
        return Detections(
            offset_s=frames.offset_s,
            histograms=np.concatenate([histograms for _, histograms, _ in found]),
            faces=faces,
            probs=self._classify(frames, faces),
        )

    def _classify(self, frames: Frames, faces: Faces) -> Float32:
        """Return what is on the faces, each worker's share of them at once."""
        n_parts = max(1, min(self._n_workers, len(faces) // _MIN_FACES))
        bounds = [round(len(faces) * i / n_parts) for i in range(n_parts + 1)]
        shares = [faces.rows(slice(*ends)) for ends in pairwise(bounds)]
        answers = self._workers.map(lambda share: self._classifier.classify(frames, share), shares)
        return np.concatenate(list(answers))


def _rows(frames: Frames, rows: slice) -> Frames:
    return replace(frames, images=frames.images[rows], offset_s=frames.offset_s[rows])


def _joined(parts: list[Frames]) -> Frames:
    """Return the frames of all parts. The source's size is that of the first."""
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        images=np.concatenate([part.images for part in parts]),
        offset_s=np.concatenate([part.offset_s for part in parts]),
    )


def _joined_faces(parts: list[tuple[int, Faces]]) -> Faces:
    """Return the faces of all parts, each with its number of frames."""
    first = np.cumsum([0, *(n_frames for n_frames, _ in parts)])
    return Faces(
        frame=np.concatenate([f.frame + at for at, (_, f) in zip(first, parts, strict=False)]),
        boxes=np.concatenate([faces.boxes for _, faces in parts]),
        scores=np.concatenate([faces.scores for _, faces in parts]),
        landmarks=np.concatenate([faces.landmarks for _, faces in parts]),
    )


class Linker:
    """Segments of one broadcast, in order: who is who over time, and the smoothed history."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        """Start a broadcast, or go on exactly where `state` was taken.

        Raises StateError for a foreign state.
        """
        self._tracker = Tracker()
        self._smoother = Smoother()
        self._shots = cuts.Shots()
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
            self._shots = cuts.Shots.from_state(state["histogram"], state.get("usual"))
        except (KeyError, TypeError, ValueError) as e:
            raise StateError(f"not a stored state of tracks: {e!r}") from e

    @property
    def state(self) -> dict[str, Any]:
        """Return all that the next segment needs, for JSON; some kilobytes."""
        histogram, usual = self._shots.state
        return {
            "version": _STATE_VERSION,
            "tracker": self._tracker.state,
            "smoother": self._smoother.state,
            "histogram": histogram,
            "usual": usual,
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
            boxes = faces.boxes[rows]
            stay = partial(self._tracker.faces_stay, ts_us, boxes)
            if self._shots.see(detections.histograms[i], faces_stay=stay):
                self._tracker.reset()
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
        )
