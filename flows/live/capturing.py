"""Makes the capture of one broadcast of a show and its analysis, as the settings say."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from flows.capture.disk import once_writable
from flows.capture.recorded.recovery import recover
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture
from flows.capture.supervisor.quota import Quota
from flows.live.lifecycle import WatchedBroadcast
from flows.live.rows.analysis import Analysis, networks
from flows.live.rows.observers import Observer
from flows.live.rows.store import Store
from flows.live.way_to_source import WayToSource
from flows.settings import Settings
from flows.show import Show

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


def capture_of(
    show: Show,
    settings: Settings,
    broadcast: WatchedBroadcast,
    stream: Stream,
    way: WayToSource,
    directory: Path,
    extractors: Sequence[type],
) -> Capture:
    """Return the capture of a broadcast into its folder; nothing is started yet."""
    return Capture(
        show.url,
        directory=directory,
        channel=show.slug,
        broadcast=broadcast.id,
        policy=way.policy,
        access=way.access,
        quality=show.limits,
        language=show.audio_language,
        after=broadcast.last,
        until=broadcast.until,
        duration_s=None if broadcast.until else show.length.total_seconds(),
        segment_s=settings.segment_s,
        stream=stream,
        ffmpeg_path=settings.ffmpeg,
        engine=settings.engine,
        time_shifted=show.slug in settings.time_shifted,
        stall_s=settings.stall_s,
        min_free_bytes=settings.min_free_disk_mb << 20,
        quota=Quota(
            total_bytes=round(settings.max_show_gb * 1e9) or None,
            mbits_per_s=settings.max_show_mbits or None,
        ),
        away_s=show.max_wait.total_seconds(),
        extractors=extractors,
    )


def recover_own(directory: Path, show: Show, broadcast: WatchedBroadcast) -> None:
    """Have what an earlier process of this broadcast has recorded be in its journal.

    A disk that takes nothing is waited for, until the broadcast's planned end; DiskFull then.
    """
    end = broadcast.until or broadcast.started_at + show.length

    def run() -> None:
        deque(recover(directory, channel=show.slug, broadcast=broadcast.id), maxlen=0)

    once_writable(run, over=lambda: datetime.now(UTC) >= end, pause=time.sleep)


def analysis_of(
    show: Show,
    settings: Settings,
    broadcast: WatchedBroadcast,
    store: Store,
    observer: Observer,
    log: Log,
) -> Analysis:
    """Return what takes the segments of a broadcast, with its networks loaded."""
    from emotion.pipeline import Linker  # as in `networks`

    analyser = networks(
        show.detector,
        settings.emotion_network(show.emotion_model),
        settings.device,
        settings.cache_dir,
        settings.detection_size_px,
        settings.search_everywhere,
    )
    store.model = analyser.model
    return Analysis(
        analyser=analyser,
        linker=Linker(broadcast.tracker_state, number_from=broadcast.last_track + 1),
        store=store,
        fps=show.analysed_fps,
        log=log,
        observer=observer,
    )
