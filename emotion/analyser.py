"""Analysis of a segment: decoding and both networks, in parallel."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from emotion import alike
from emotion.ahead import Prefetcher
from emotion.classify import Classifier
from emotion.detection import detect
from emotion.detection.detect import Detector
from emotion.detection.looks import Search
from emotion.device import bring, choose_device, pool_memory
from emotion.linking import cuts
from emotion.media import segment
from emotion.media.decode import Skip
from emotion.media.streams import cores
from emotion.types import Detections, Faces, Float32, Float64, Frames, Int64
from emotion.weights import store as weights

Parts = Prefetcher[Frames]

_MAX_WORKERS: Final = 8
_MIN_FACES: Final = 4  # smaller batches cost more per face
_PARTS_AHEAD: Final = 16


class Analyser:
    """Both networks, loaded once. Results depend only on the segment and on `model`.

    Thread-safe. On a CPU the frames of a segment are distributed over single-threaded
    workers, while the next are decoded: threads that share one picture
    wait for each other, especially if other programs use the cores.
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
        everywhere: bool = False,
    ) -> None:
        """Load the networks, fetching their weights if they are not in the cache.

        device: "auto", "cpu", "cuda" or "cuda:N". cache_dir: None for the user's cache folder.
        emotion_model: a name, or the path of an ONNX file with its card. longest_side_px, fps: of
        the analysed frames; None for the size that the detector was trained for.
        min_score: of a face, 0 to 1. everywhere: detect in every whole frame and classify every
        face; always so on a GPU.
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
        on_cpu = chosen.type == "cpu"
        self._everywhere = everywhere or not on_cpu
        self._detector = Detector(
            weights.load(faces, cache_dir),
            model=faces,
            device=chosen,
            min_score=min_score,
            exact=self._everywhere,
        )
        self._classifier = Classifier.of(emotions, cache_dir=cache_dir, device=chosen)
        if on_cpu:
            pool_memory()
        self._n_workers = min(_MAX_WORKERS, cores()) if on_cpu else 1
        self._workers = ThreadPoolExecutor(
            self._n_workers,
            thread_name_prefix="analyse",
            initializer=partial(torch.set_num_threads, 1) if on_cpu else None,
        )
        self.model = f"{faces.name}+{emotions.name}"
        self.device = str(chosen)
        self.longest_side_px = longest_side_px
        self.fps = fps

    def analyse(self, frames: Frames) -> Detections:
        """Return the faces of the frames and their emotions."""
        _, height, width, _ = frames.images.shape
        step = max(1, self._detector.part_px() // max(1, height * width))
        firsts = range(0, len(frames), step) if len(frames) else range(1)
        return self.analyse_parts(_rows(frames, slice(first, first + step)) for first in firsts)

    def analyse_file(self, path: Path) -> Detections:
        """Return the detections of one segment's file. Raises VideoError."""
        return self.analyse_parts(self.decode(path))

    def decode(
        self,
        path: Path,
        *,
        fps: float | None = None,
        skip: Skip = "needless",
        longest_s: float | None = None,
        lead: Sequence[Path] = (),
    ) -> Parts:
        """Start to decode a segment's file; return the input of `analyse_parts`.

        fps: overrides the configured one. longest_s: maximum duration. lead: preceding files that
        its first pictures may need (`media.segment`). Close it if it is not consumed.
        """
        return Prefetcher(
            lambda: segment.read_parts(
                path,
                fps=fps or self.fps,
                longest_side_px=self.longest_side_px,
                part_px=self._detector.part_px(),
                skip=skip,
                longest_s=longest_s,
                lead=lead,
            ),
            depth=_PARTS_AHEAD,
        )

    def analyse_parts(self, parts: Iterable[Frames]) -> Detections:
        """Return the detections of a segment's frames, given in at least one part.

        Detection starts with the first part. Raises the exceptions of the iterator.
        """
        if not self._everywhere:
            return self._analyse_near(parts)
        found: list[tuple[Frames, Float32, Future[tuple[Faces, Tensor]]]] = []
        try:
            for part in parts:
                future = self._workers.submit(self._detect, part)
                found.append((part, cuts.histograms(part.images), future))
            answers = [future.result() for *_, future in found]
        finally:
            for *_, future in found:
                future.cancel()
        faces = _joined([(len(pictures), faces) for faces, pictures in answers])
        pictures = [picture for _, part in answers for picture in part.unbind()]
        probs, affect = self._classify(found[0][0], faces, pictures)
        return Detections(
            offset_s=np.concatenate([part.offset_s for part, *_ in found]),
            histograms=np.concatenate([histograms for _, histograms, _ in found]),
            faces=faces,
            probs=probs,
            affect=affect,
        )

    def _analyse_near(self, parts: Iterable[Frames]) -> Detections:
        """Do the same, searching frames between looks only around expected faces."""
        search = Search(self._detector, self._workers)
        pictures: list[Tensor] = []
        offsets_s: list[Float64] = []
        histograms: list[Float32] = []
        first: Frames | None = None
        try:
            for part in parts:
                first = part if first is None else first
                offsets_s.append(part.offset_s)
                histograms.append(cuts.histograms(part.images))
                brought = bring(part.images, self._detector.device).unbind()
                for i, picture in enumerate(brought):
                    search.see(_rows(part, slice(i, i + 1)), picture, histograms[-1][i])
                pictures += brought
            faces = search.faces()
        finally:
            search.cancel()
        assert first is not None
        probs, affect = self._classify(first, faces, pictures, alike.face_ids(faces))
        return Detections(
            offset_s=np.concatenate(offsets_s),
            histograms=np.concatenate(histograms),
            faces=faces,
            probs=probs,
            affect=affect,
        )

    def _detect(self, part: Frames) -> tuple[Faces, Tensor]:
        """Return the faces, and the pictures on the device, for the second network."""
        pictures = bring(part.images, self._detector.device)
        return self._detector.detect(part, pictures), pictures

    def _classify(
        self, first: Frames, faces: Faces, pictures: list[Tensor], person: Int64 | None = None
    ) -> tuple[Float32, Float32 | None]:
        """Return the results of `Classifier.answer`, computed by all workers.

        first: frames with the pictures' size and their source's. person: (M,), from
        `alike.face_ids`, to skip unchanged faces; None to classify all.
        """
        order = np.arange(len(faces)) if person is None else np.argsort(person, kind="stable")
        n_parts = max(1, min(self._n_workers, len(faces) // _MIN_FACES))
        bounds = [round(len(faces) * i / n_parts) for i in range(n_parts + 1)]
        if (
            person is not None and n_parts > 1
        ):  # a person's faces stay together, however many workers
            begins = np.flatnonzero(np.diff(person[order], prepend=-1))
            nearest = np.abs(np.subtract.outer(bounds[1:-1], begins)).argmin(axis=1)
            bounds[1:-1] = begins[nearest].tolist()
        shares = [order[slice(*ends)] for ends in pairwise(bounds)]
        answers = self._workers.map(
            lambda share: self._classifier.answer(
                first, faces.rows(share), pictures, None if person is None else person[share]
            ),
            shares,
        )
        probs, affect = zip(*answers, strict=True)
        given = [values for values in affect if values is not None]
        back = np.argsort(order)
        return np.concatenate(probs)[back], np.concatenate(given)[back] if given else None


def _rows(frames: Frames, rows: slice) -> Frames:
    return replace(frames, images=frames.images[rows], offset_s=frames.offset_s[rows])


def _joined(parts: list[tuple[int, Faces]]) -> Faces:
    """Return the faces of all parts, each with its number of frames."""
    first = np.cumsum([0, *(n_frames for n_frames, _ in parts)])
    return Faces(
        frame=np.concatenate([f.frame + at for at, (_, f) in zip(first, parts, strict=False)]),
        boxes=np.concatenate([faces.boxes for _, faces in parts]),
        scores=np.concatenate([faces.scores for _, faces in parts]),
        landmarks=np.concatenate([faces.landmarks for _, faces in parts]),
    )
