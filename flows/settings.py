"""Settings, read once at an entry point: environment variables that begin with SHOWMOOD_."""

import socket
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from flows.errors import UsageError

OWN: Final = "own"
"""The name in shows of the network that the operator set."""

_LISTS: Final = ("allow_networks", "time_shifted", "work_pools", "ui_hosts", "page_hosts")


class Settings(BaseSettings):
    """The operator's settings; every field is SHOWMOOD_<NAME> in the environment or in `.env`."""

    model_config = SettingsConfigDict(
        env_prefix="SHOWMOOD_", env_file=".env", extra="ignore", frozen=True
    )

    home: Path = Field(
        Path(".showmood"), description="Folder for the embedded stack's data, recordings and logs."
    )
    database_url: str | None = Field(None, description="Any PostgreSQL; unset: an embedded one.")
    database_port: int | None = Field(
        None,
        ge=1024,
        le=65535,
        description="Port of the embedded Postgres on this machine, for Grafana and others: a user "
        "that reads, with a password (showmood db url --for jdbc); unset: none.",
    )
    cache_dir: Path | None = Field(
        None, description="Where network weights are kept; unset: the user's cache folder."
    )
    ffmpeg: Path | None = Field(
        None, description="The ffmpeg to record with; unset: the one in the imageio-ffmpeg wheel."
    )
    engine: Literal["auto", "hls", "ffmpeg"] = Field(
        "auto", description="What records: hls keeps HLS segments, ffmpeg takes any; auto: either."
    )
    allow_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Non-public networks or host:port pairs that streams may come from, "
        "comma-separated, such as 10.1.0.0/16,127.0.0.1:8099.",
    )
    sources: Path | None = Field(
        None,
        description="File with what is set for sites (cookies, proxies, cameras); unset: "
        "sources.toml in the home folder. See docs/sources.md.",
    )
    time_shifted: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Channels whose dates, hours from now, are right; comma-separated."
    )
    device: str = Field("auto", description="Where the networks run: auto, cpu, cuda, cuda:1.")
    detection_size_px: int | None = Field(
        None,
        ge=160,
        le=3840,
        description="Longest side of the picture that faces are sought in; unset: what the "
        "detector was made for.",
    )
    search_everywhere: bool = Field(False, description="Search every frame whole for faces.")
    own_emotion_model: Path | None = Field(
        None,
        description="Your own emotion network, an ONNX file with its card beside it: what shows "
        "choose as `own`.",
    )
    gpu_limit: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether a show takes one of the places of Prefect's concurrency limit gpu; "
        "auto: where its networks run on CUDA.",
    )
    segment_s: float = Field(
        2.0, ge=0.5, le=30, description="Length of a recorded segment, in seconds."
    )
    stall_s: float = Field(
        15.0, ge=1, description="Restart a capture that has brought no segment for so long."
    )
    dead_after_s: float = Field(
        120.0,
        ge=10,
        description="A show whose process gives no sign of life for so many seconds is started "
        "again.",
    )
    machine: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="Name of this machine in rows, in status and for Prefect; unset: its host "
        "name. Each machine has one of its own.",
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
        description="Other names that browsers know the UI by, comma-separated, where a proxy "
        "publishes it: shows.example.com.",
    )
    page_port: int = Field(4300, ge=1, le=65535, description="Port of the page of the shows.")
    page_listen: str = Field(
        "127.0.0.1",
        description="Address that the page listens on; other than loopback it wants "
        "SHOWMOOD_PAGE_PASSWORD.",
    )
    page_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Other names that browsers know the page by, comma-separated, where a proxy "
        "publishes it: mood.example.com.",
    )
    page_password: str | None = Field(
        None,
        min_length=12,
        repr=False,
        description="Password (user showmood) by which more people than the link's open the page; "
        "unset: by the link alone.",
    )
    demo_port: int = Field(8099, ge=1, le=65535, description="Port of the built-in demo channel.")
    min_free_disk_mb: int = Field(
        500, ge=0, description="Recording does not start, and pauses, below this much free disk."
    )
    adhoc_names: Literal["apart", "any"] = Field(
        "apart",
        description="Names of runs that no schedule starts: apart from those of scheduled shows "
        "(adhoc-...), or any.",
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
        description="A notification block of Prefect's, as slack-webhook/newsroom, that the "
        "shipped automations tell through; unset: without those that tell.",
    )
    keep_runs_days: int = Field(
        90, ge=0, description="Days that Prefect keeps its runs of ours, and events; 0 for ever."
    )
    keep_recordings_days: float = Field(
        30.0, ge=0, description="Days that recorded files are kept; 0 without limit."
    )
    keep_recordings_gb: float = Field(
        100.0, ge=0, description="How much recorded files may take, in GB; 0 without limit."
    )
    recordings_store: str | None = Field(
        None,
        description="Where each recorded file is copied to, for all machines to read: s3://, gs:// "
        "or az://bucket/prefix, or a shared folder, file:///...; unset: nowhere.",
    )
    keep_local_days: float = Field(
        2.0,
        ge=0,
        description="Days that files stay on the disk of the machine that recorded them once they "
        "are copied, where there is a store; 0: as long as KEEP_RECORDINGS_DAYS.",
    )
    keep_store_gb: float = Field(
        0.0, ge=0, description="How much the copies in the store may take, in GB; 0 without limit."
    )
    store_cache_gb: float = Field(
        10.0, ge=0.1, description="How much is kept on disk of what was read from the store, in GB."
    )
    keep_clips_days: float = Field(
        365.0, ge=0, description="Days that clips of alerts are kept; 0 without limit."
    )
    keep_clips_gb: float = Field(
        20.0, ge=0, description="How much clips of alerts may take, in GB; 0 without limit."
    )
    keep_observations_days: int = Field(
        400, ge=0, description="Days that raw rows are kept, by whole months; 0 for ever."
    )
    keep_minutes_days: int = Field(
        0,
        ge=0,
        description="Days that means a minute are kept, as long as raw rows at least; 0 for ever.",
    )
    keep_tracks_days: int = Field(
        800,
        ge=0,
        description="Days that tracks are kept, as long as raw rows at least; 0 for ever.",
    )
    keep_segments_days: int = Field(
        800, ge=0, description="Days that the rows of recorded segments are kept; 0 for ever."
    )
    keep_gaps_days: int = Field(
        0, ge=0, description="Days that what was missed, and why, is kept; 0 for ever."
    )

    @field_validator(*_LISTS, mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else None
        return value if parts is None else tuple(filter(None, (part.strip() for part in parts)))

    def emotion_network(self, name: str) -> str:
        """Return what `Analyser` takes for the emotion network that a show calls so.

        Raises UsageError for "own" where none is set.
        """
        if name != OWN:
            return name
        if self.own_emotion_model is None:
            raise UsageError(
                "emotion_model is own, and there is none: set SHOWMOOD_OWN_EMOTION_MODEL"
            )
        if self.own_emotion_model.suffix != ".onnx":
            raise UsageError(f"{self.own_emotion_model} is no ONNX file: its name ends otherwise")
        return str(self.own_emotion_model)

    def choosing(self, emotion_model: str | None) -> tuple["Settings", str | None]:
        """Return settings and the name of the network, for an operator who may give a path."""
        if emotion_model is None or not emotion_model.endswith(".onnx"):
            return self, emotion_model
        return self.model_copy(update={"own_emotion_model": Path(emotion_model)}), OWN

    @property
    def machine_name(self) -> str:
        """Return what this machine is called."""
        return self.machine or socket.gethostname()

    @property
    def recordings_dir(self) -> Path:
        """Return the folder of the recordings."""
        return self.home / "recordings"

    @property
    def copies_dir(self) -> Path:
        """Return the folder of what was read from the object store."""
        return self.home / "copies"

    @property
    def sources_file(self) -> Path:
        """Return the file with what is set for sites, whether or not it is there."""
        return self.sources or self.home / "sources.toml"

    @property
    def clips_dir(self) -> Path:
        """Return the folder of the clips that automations cut."""
        return self.home / "clips"


def load_settings() -> Settings:
    """Read the environment.

    Raises UsageError, one line that names the variable, when a value does not fit.
    """
    try:
        settings = Settings()  # type: ignore[call-arg]  # mypy does not see Field's positional defaults
    except ValidationError as e:
        raise UsageError(
            "; ".join(
                f"SHOWMOOD_{'_'.join(map(str, error['loc'])).upper()}: {error['msg']}"
                + ("" if "page_password" in error["loc"] else f" (it is {error['input']!r})")
                for error in e.errors()
            )
        ) from e
    found = {"home": settings.home.expanduser().resolve()}
    if settings.sources is not None:
        found["sources"] = settings.sources.expanduser().resolve()
    return settings.model_copy(update=found)


def running_database(settings: Settings) -> str:
    """Return the URL of the database that is set, for processes that start none of their own.

    Raises UsageError when none is: the embedded one is the stack's to start.
    """
    if settings.database_url is None:
        raise UsageError(
            "no database: run the worker under `showmood up`, or set SHOWMOOD_DATABASE_URL for it"
        )
    return settings.database_url
