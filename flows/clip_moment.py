"""The flow clip-moment: cuts a clip out of a recording, by hand or after an emotion alert."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from pydantic import Field

from db.session import make_engine, require_current
from flows.errors import EXPECTED, UsageError
from flows.forwarding import forward_run, machines_with_files, was_forwarded
from flows.objects.configured import copies_of
from flows.recordings.alert_clips import path_of, roll_clips
from flows.settings import load_settings, running_database
from flows.show import Slug, parse_since, titled
from flows.stack.processes.home import keep_private, make_home


@flow(name="clip-moment", flow_run_name="{channel} from {start}", persist_result=False)
def clip_moment(
    channel: Annotated[Slug, titled("Channel's name")],
    start: Annotated[str, Field(examples=["2026-11-22T20:00:00+01:00", "2m"]), titled("From")],
    end: Annotated[str, Field(examples=["2026-11-22T20:00:20+01:00", "1m"]), titled("Until")],
) -> State:
    """Cut a clip out of a channel's recording, into the folder `clips` of SHOWMOOD_HOME.

    Args:
        channel: The channel's name in the database.
        start: The beginning: a time, or how long ago it was, as 2m.
        end: The end: a time, or how long ago it was.
    """
    from flows.recordings.clip import clip  # imports PyAV, which `prefect deploy` does not need

    log = get_run_logger()
    try:
        settings = load_settings()
        make_home(settings.home, embedded=False)
        keep_private()
        begin, until = parse_since(start), parse_since(end)
        out = path_of(settings.clips_dir, channel, begin)
        _make_folder(out.parent)
        engine = make_engine(running_database(settings))
        try:
            require_current(engine)
            others, has_some = machines_with_files(engine, settings, channel, begin, until)
            if others and not has_some and not was_forwarded():
                stretch = {"start": begin.isoformat(), "end": until.isoformat()}
                lines = forward_run(others[:1], stretch)
                return Completed(name="HandedOn", message=f"its files are not here: {lines[0]}")
            recordings_dir = settings.recordings_dir
            # force: two faces may raise an alert at the same time, and both want this clip.
            cuts = clip(
                engine,
                channel,
                begin,
                until,
                out,
                recordings_dir=recordings_dir,
                machine=settings.machine_name,
                copies=copies_of(settings),
                force=True,
            )
        finally:
            engine.dispose()
        roll_clips(settings, datetime.now(UTC))
    except (*EXPECTED, OSError) as e:
        log.error("%s", e)
        return Failed(message=str(e))
    lines = [f"| `{cut.path}` | {cut.begin:%H:%M:%S} | {cut.duration_s:.1f} s |" for cut in cuts]
    create_markdown_artifact(
        "\n".join([f"# {channel}", "", "| file | from (UTC) | length |", "|---|---|---|", *lines]),
        key=f"clip-{channel}",
        description="Where the clip is, on the worker's machine",
    )
    return Completed(message=", ".join(str(cut.path) for cut in cuts))


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UsageError(f"{path} cannot be made: {e.strerror}") from e
