"""Settings: environment variables that begin with SHOWMOOD_, read once at an entry point."""

import os
import socket
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from flows.errors import UsageError

OWN: Final = "own"
"""Name by which shows choose the operator's network (own_emotion_model)."""

_Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+$")]
_LISTS: Final = ("allow_networks", "time_shifted", "work_pools", "ui_hosts", "page_hosts")


class Settings(BaseSettings, extra="ignore", allow_inf_nan=False):
    """The operator's settings: SHOWMOOD_<NAME> in the environment or `.env`, unless empty."""

    model_config = SettingsConfigDict(
        env_prefix="SHOWMOOD_", env_file=".env", env_ignore_empty=True, frozen=True
    )

    home: Path = Field(
        Path(".showmood"), description="Folder for the embedded stack's data, recordings and logs."
    )
    database_url: str | None = Field(None, description="Any PostgreSQL; unset: an embedded one.")
    database_port: int | None = Field(
        None,
        ge=1024,
        le=65535,
        description="Loopback port of the embedded Postgres, for Grafana and others: a read-only "
        "user with a password (showmood db url --for jdbc); unset: none.",
    )
    cache_dir: Path | None = Field(
        None, description="Where network weights are kept; unset: the user's cache folder."
    )
    ffmpeg: Path | None = Field(
        None, description="The ffmpeg to record with; unset: the one in the imageio-ffmpeg wheel."
    )
    engine: Literal["auto", "hls", "ffmpeg"] = Field(
        "auto", description="Recording engine: hls (HLS as it is) or ffmpeg (any stream)."
    )
    allow_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Non-public networks or host:port pairs that streams may come from, "
        "comma-separated, such as 10.1.0.0/16,127.0.0.1:8099.",
    )
    sources: Path | None = Field(
        None,
        description="File with settings by site; unset: sources.toml in the home folder.",
    )
    time_shifted: Annotated[tuple[_Slug, ...], NoDecode] = Field(
        (), description="Channels whose source's dates are right though hours from now."
    )
    device: str = Field("auto", description="Where the networks run: auto, cpu, cuda, cuda:1.")
    detection_size_px: int | None = Field(
        None,
        ge=160,
        le=3840,
        description="Longest side of the picture for face detection; unset: the detector's size.",
    )
    search_everywhere: bool = Field(
        False, description="Search all of every frame for faces, not only around known ones."
    )
    own_emotion_model: Path | None = Field(
        None,
        description="Your own emotion network, an ONNX file with its card beside it; shows choose "
        "it as `own`.",
    )
    gpu_limit: Literal["auto", "always", "never"] = Field(
        "auto", description="Take a slot of Prefect's concurrency limit gpu; auto: on CUDA."
    )
    segment_s: float = Field(
        2.0, ge=0.5, le=30, description="Length of a recorded segment, in seconds."
    )
    stall_s: float = Field(
        15.0, ge=1, description="Seconds without a segment after which a capture is restarted."
    )
    dead_after_s: float = Field(
        120.0,
        ge=10,
        description="Seconds without a heartbeat after which a show's run is started again.",
    )
    machine: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="Unique name of this machine, in rows and in Prefect; unset: its host name.",
    )
    work_pools: Annotated[tuple[str, ...], NoDecode] = Field(
        ("shows",),
        min_length=1,
        description="Work pools that this machine's workers serve, comma-separated: shows, or "
        "shows,gpu.",
    )
    worker_limit: int | None = Field(
        None, ge=1, description="Shows that each worker runs at once; unset: any number."
    )
    prefect_database_url: str | None = Field(
        None,
        description="A PostgreSQL with pg_trgm for the embedded Prefect server; unset: SQLite in "
        "the home folder.",
    )
    ui_port: int = Field(4200, ge=1, le=65535, description="Port of the embedded Prefect server.")
    ui_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Further host names of the UI, comma-separated, where a proxy publishes it: "
        "shows.example.com.",
    )
    page_port: int = Field(4300, ge=1, le=65535, description="Port of the page of the shows.")
    page_listen: str = Field(
        "127.0.0.1",
        description="Address that the page listens on; one other than loopback needs "
        "SHOWMOOD_PAGE_PASSWORD.",
    )
    page_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Further host names of the page, comma-separated, where a proxy publishes it: "
        "mood.example.com.",
    )
    page_password: str | None = Field(
        None,
        min_length=12,
        repr=False,
        description="Password (user showmood) that opens the page without the link; unset: only "
        "the link does.",
    )
    demo_port: int = Field(8099, ge=1, le=65535, description="Port of the built-in demo channel.")
    min_free_disk_mb: int = Field(
        500, ge=0, description="Free disk in MB below which recording pauses, or does not start."
    )
    adhoc_names: Literal["apart", "any"] = Field(
        "apart",
        description="Channel names of runs without a schedule: apart: a scheduled show's name gets "
        "the prefix adhoc-; any: as given.",
    )
    max_show_mbits: float = Field(
        60.0,
        ge=0,
        description="Recording ends when a source sends more than this, in Mbit/s, on average over "
        "a minute; 0 without limit.",
    )
    max_show_gb: float = Field(
        200.0,
        ge=0,
        description="Recording ends when a broadcast takes more than this, in GB; 0 without limit.",
    )
    tell_gap_s: float = Field(
        10.0, ge=0, description="Gaps longer than this emit an event, in seconds."
    )
    tell_behind_s: float = Field(
        10.0, gt=0, description="Being further behind the air than this emits an event, in seconds."
    )
    notify_block: str | None = Field(
        None,
        description="Prefect notification block for the shipped automations, as "
        "slack-webhook/newsroom; unset: no notifications.",
    )
    keep_runs_days: int = Field(
        90, ge=0, description="Days that Prefect keeps our runs and events; 0 without limit."
    )
    keep_recordings_days: float = Field(
        30.0, ge=0, description="Days that recorded files are kept; 0 without limit."
    )
    keep_recordings_gb: float = Field(
        100.0, ge=0, description="How much recorded files may take, in GB; 0 without limit."
    )
    recordings_store: str | None = Field(
        None,
        description="Object store to which each recorded file is copied, for all machines: s3://, "
        "gs:// or az://bucket/prefix, or a shared folder, file:///...; unset: none.",
    )
    keep_local_days: float = Field(
        2.0,
        ge=0,
        description="Days that files stay on the recording machine after they were copied to the "
        "store; 0: as KEEP_RECORDINGS_DAYS.",
    )
    keep_store_gb: float = Field(
        0.0, ge=0, description="How much the copies in the store may take, in GB; 0 without limit."
    )
    store_cache_gb: float = Field(
        10.0, ge=0.1, description="Disk cache of files that were read from the store, in GB."
    )
    keep_clips_days: float = Field(
        365.0, ge=0, description="Days that clips of alerts are kept; 0 without limit."
    )
    keep_clips_gb: float = Field(
        20.0, ge=0, description="How much clips of alerts may take, in GB; 0 without limit."
    )
    keep_observations_days: int = Field(
        400, ge=0, description="Days that raw rows are kept, by whole months; 0 without limit."
    )
    keep_minutes_days: int = Field(
        0,
        ge=0,
        description="Days that means by the minute are kept, at least as long as raw rows; 0 "
        "without limit.",
    )
    keep_tracks_days: int = Field(
        800,
        ge=0,
        description="Days that tracks are kept, at least as long as raw rows; 0 without limit.",
    )
    keep_segments_days: int = Field(
        800, ge=0, description="Days that the rows of recorded segments are kept; 0 without limit."
    )
    keep_gaps_days: int = Field(
        0, ge=0, description="Days that gaps and their reasons are kept; 0 without limit."
    )

    @field_validator(*_LISTS, mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else None
        return value if parts is None else tuple(filter(None, (part.strip() for part in parts)))

    def emotion_network(self, name: str) -> str:
        """Return the emotion network's name, or for "own" the operator's file, for `Analyser`.

        Raises UsageError for "own" where none is set.
        """
        if name != OWN:
            return name
        if self.own_emotion_model is None:
            raise UsageError(
                "emotion_model is own, but no file is set: set SHOWMOOD_OWN_EMOTION_MODEL"
            )
        if self.own_emotion_model.suffix != ".onnx":
            raise UsageError(
                f"SHOWMOOD_OWN_EMOTION_MODEL: {self.own_emotion_model} does not end in .onnx"
            )
        return str(self.own_emotion_model)

    def choosing(self, emotion_model: str | None) -> tuple["Settings", str | None]:
        """Return settings and network name for a command line; a path becomes "own"."""
        if emotion_model is None or not emotion_model.endswith(".onnx"):
            return self, emotion_model
        return self.model_copy(update={"own_emotion_model": Path(emotion_model)}), OWN

    @property
    def machine_name(self) -> str:
        """Return this machine's name."""
        return self.machine or socket.gethostname()

    @property
    def recordings_dir(self) -> Path:
        """Return the folder of the recordings."""
        return self.home / "recordings"

    @property
    def copies_dir(self) -> Path:
        """Return the folder that caches files of the object store."""
        return self.home / "copies"

    @property
    def sources_file(self) -> Path:
        """Return the path of the file with settings by site; it need not exist."""
        return self.sources or self.home / "sources.toml"

    @property
    def clips_dir(self) -> Path:
        """Return the folder of clips cut by automations."""
        return self.home / "clips"


def load_settings() -> Settings:
    """Read the environment.

    Raises UsageError, one line that names the variable, for an invalid value.
    """
    try:
        settings = Settings()  # type: ignore[call-arg]  # mypy does not see Field's positional defaults
    except ValidationError as e:
        raise UsageError(
            "; ".join(
                f"SHOWMOOD_{str(error['loc'][0]).upper()}: {error['msg']}"
                + ("" if "page_password" in error["loc"] else f" (it is {error['input']!r})")
                for error in e.errors()
            )
        ) from e
    paths = {"home": settings.home, "sources": settings.sources}
    # Path.resolve would raise for a loop of links.
    found = {k: Path(os.path.realpath(os.path.expanduser(p))) for k, p in paths.items() if p}
    return settings.model_copy(update=found)


def running_database(settings: Settings) -> str:
    """Return the database URL; raises UsageError where none is set.

    For processes that do not start an embedded database.
    """
    if settings.database_url is None:
        raise UsageError(
            "no database: run the worker under `showmood up`, or set SHOWMOOD_DATABASE_URL for it"
        )
    return settings.database_url
