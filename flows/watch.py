"""watch_show: one run is one broadcast of one channel."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated
from uuid import UUID

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from emotion.weights.catalogue import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL
from flows.capture.redaction import shorten
from flows.capture.segment import SourceUnreachable
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture
from flows.control.client.secrets import secret_of
from flows.control.events import EventObserver
from flows.control.gpu_place import gpu_place
from flows.control.healing import was_cancelled
from flows.control.heartbeat import (
    Heartbeat,
    cancelled,
    exit_at_once,
    heartbeats,
    outlive_worker,
    run_was_cancelled,
    skip_gc_at_exit,
)
from flows.control.ownership import deployed, name_of_run
from flows.control.run_page import RunPage
from flows.errors import EXPECTED, HandedOver, Skipped
from flows.live.broadcast import Watch
from flows.live.left_open import end_cancelled
from flows.live.locking.handover_signal import install_handler
from flows.live.rows.analysis import Analysis, take_for
from flows.live.rows.observers import Observers
from flows.settings import load_settings, running_database
from flows.show import (
    Alerts,
    AnalysedFps,
    DetectorName,
    DurationField,
    EmotionModelName,
    LanguageField,
    NameField,
    QualityName,
    Url,
    WaitField,
    make_show,
    slug_of,
    titled,
)
from flows.stack.processes.home import keep_private, make_home


@task(
    name="find-stream",
    retries=3,
    retry_delay_seconds=[2, 5, 10],
    retry_condition_fn=lambda task, run, state: _is_passing(state),
    cache_policy=NO_CACHE,
    persist_result=False,
)
def find_stream(look: Callable[[], Stream]) -> Stream:
    """Find the show's stream; retried when the site is unreachable, not when it refuses."""
    return look()


def _is_passing(state: State) -> bool:
    try:
        state.result()
    except SourceUnreachable:
        return True
    except Exception:  # noqa: BLE001 - no other error goes away by a retry
        return False
    return False


@task(name="analyse-segments", cache_policy=NO_CACHE, persist_result=False)
def analyse_segments(analysis: Analysis, capture: Capture) -> State:
    """Analyse, link and store a minute of captured segments, on the GPU if there is one.

    No retries: a segment that fails would fail again; it is stored with its error.
    """
    before = replace(analysis.counts)
    take_for(analysis, capture)
    return Completed(message=analysis.counts.summary(before))


def scheduled_start() -> datetime:
    """Return the run's scheduled start, UTC, as a plain datetime (Prefect's is a subclass)."""
    start = flow_run.scheduled_start_time
    return datetime.fromtimestamp(start.timestamp(), UTC) if start else datetime.now(UTC)


def run_name() -> str:
    """Return "channel 2026-11-22 20:00", the name of a run."""
    parameters = flow_run.parameters or {}
    slug = parameters.get("name") or slug_of(str(parameters.get("url", "")))
    return f"{slug} {scheduled_start():%Y-%m-%d %H:%M}"


@flow(name="watch-show", flow_run_name=run_name, persist_result=False)
def watch_show(
    url: Url,
    name: NameField = "",
    duration: DurationField = "1h",
    analysed_fps: AnalysedFps = 5.0,
    detector: Annotated[DetectorName, titled("Detector")] = DEFAULT_DETECTOR,
    emotion_model: Annotated[EmotionModelName, titled("Emotion net")] = DEFAULT_EMOTION_MODEL,
    alerts: Alerts = (),
    give_up_after: WaitField = "10m",
    quality: Annotated[QualityName, titled("Record at most")] = "720p",
    audio_language: LanguageField = "",
) -> State:
    """Watch a live show: what its faces show is in the database a second or so behind the air.

    Args:
        url: Page or playlist of a live stream, http or https: a YouTube channel's /live page, an
            .m3u8.
        name: The channel's name, which rows and recordings are filed under: lower-case letters,
            digits and hyphens. Made of the URL if left out.
        duration: How long to watch, from the first segment on: 30s, 45m, 1h30m.
        analysed_fps: Frames analysed for each second of show. 5 follows faces well; fewer cost
            less.
        detector: The network that finds faces.
        emotion_model: The network that reads expressions; own is the operator's.
        alerts: Emit an event, which automations act on, when an emotion stays above a threshold.
        give_up_after: How long to wait for a show that has not begun, or is off air for a while:
            0s, 10m, 2h.
        quality: The largest picture that is recorded; verbatim is the best there is. What is
            analysed is scaled anyway.
        audio_language: Which language to record where the source offers several: en, de, pt-BR.
            Empty, or one that is not there: the source's own choice.
    """
    outlive_worker()
    install_handler()
    log = get_run_logger()
    run_id = UUID(flow_run.id)
    run_page: RunPage | None = None
    heartbeat: Heartbeat | None = None
    with get_client(sync_client=True) as client:
        is_cancelled = was_cancelled(client.read_flow_run_states(run_id))
        shows = list(deployed(client))
    try:
        show = make_show(
            url=url,
            name=name or None,
            duration=duration,
            analysed_fps=analysed_fps,
            detector=detector,
            emotion_model=emotion_model,
            alerts=alerts,
            give_up_after=give_up_after,
            quality=quality,
            audio_language=audio_language,
        )
        settings = load_settings()
        make_home(settings.home, embedded=False, may_wait=True)
        keep_private()
        own = UUID(deployment.id) if deployment.id else None
        apart, of_schedule = name_of_run(show.slug, show.url, own, shows)
        if apart != show.slug and settings.adhoc_names == "apart":
            log.warning("%s is a scheduled show's: this run is filed under %s", show.slug, apart)
            show = show.model_copy(update={"name": apart})
        if is_cancelled:
            end_cancelled(settings, show.slug, str(run_id), log)
            return cancelled()
        run_page = RunPage(channel=show.slug, run_id=run_id, log=log, machine=settings.machine_name)
        events = EventObserver(
            channel=show.slug,
            url=shorten(show.url),
            alerts=show.alerts,
            gap_s=settings.tell_gap_s,
            behind_s=settings.tell_behind_s,
            log=log,
        )

        def minute(analysis: Analysis, capture: Capture) -> None:
            label = f"{show.slug} {datetime.now(UTC):%H:%M}"
            analyse_segments.with_options(task_run_name=label)(analysis, capture)

        watch = Watch(
            show=show,
            settings=settings,
            database_url=running_database(settings),
            log=log,
            run_id=str(run_id),
            find=find_stream,
            minute=minute,
            observer=Observers(events, run_page),
            ends_at=scheduled_start() + show.length,
            place=partial(gpu_place, settings, log),
            of_schedule=of_schedule,
            secret_of=secret_of,
            was_cancelled=run_was_cancelled,
        )
        with heartbeats(run_id, dead_after_s=settings.dead_after_s) as heartbeat:
            counts = watch.run()
    except TerminationSignal:
        if heartbeat is None or not heartbeat.was_obeyed:
            raise
        return cancelled()  # Prefect would call it crashed: only its worker's cancels count there
    except HandedOver as e:
        log.warning("%s", e)
        if run_page is not None:
            run_page.close()
        exit_at_once()
    except Skipped as e:
        log.warning("%s", e)
        return Completed(name="Skipped", message=str(e))
    except EXPECTED as e:
        log.error("%s", e)
        return Failed(message=str(e))
    finally:
        if run_page is not None:
            run_page.close()
        skip_gc_at_exit()
    return Completed(message=counts.summary())
