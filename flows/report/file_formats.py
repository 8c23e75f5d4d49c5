"""CSV, JSON lines and Parquet with one schema, and a description of its columns."""

import csv
import importlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, Literal, Self, SupportsFloat, get_args

from db.reading.history import ColumnInfo
from db.reading.shows import ShowRow
from db.tables.shows import AFFECT, EMOTIONS
from flows.errors import UsageError

Format = Literal["csv", "json", "parquet"]
FORMATS: Final = get_args(Format)

_FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""Characters that begin a formula in a spreadsheet, in both widths."""

_TYPES: Final = {
    "smallint": "int16",
    "integer": "int32",
    "bigint": "int64",
    "real": "float32",
    "double precision": "float64",
    "numeric": "float64",
    "boolean": "bool",
    "timestamp with time zone": "timestamp",
}
"""Arrow's and numpy's names of Postgres's types; others are text."""

_UNITS: Final = {
    "_s": "s",
    "seconds": "s",
    "_ms": "ms",
    "_px": "px",
    "_deg": "degrees",
    "fps": "Hz",
}
"""Units by the end of a column's name."""

Rows = Sequence[Sequence[Any]]
Write = Callable[[Rows], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a file. kind: float32, timestamp ... unit: may be empty."""

    name: str
    kind: str
    unit: str
    meaning: str

    @classmethod
    def of(cls, info: ColumnInfo) -> Self:
        """Return a view's column as one of a file."""
        kind = _TYPES.get(info.kind, "string")
        return cls(name=info.name, kind=kind, unit=_unit(info.name, kind), meaning=info.meaning)


OFFSET: Final = Column(
    name="offset_s", kind="float64", unit="s", meaning="Since the beginning of the show"
)


def _unit(name: str, kind: str) -> str:
    if kind == "timestamp":
        return "UTC"
    if re.fullmatch("[xy][01]", name):
        return "px"
    if name in AFFECT:
        return "-1 to 1"
    if name in ("score", "share") or name.removeprefix("raw_") in EMOTIONS:
        return "0 to 1"
    return next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")


@dataclass(kw_only=True, slots=True)
class Meta:
    """The description of an export; the last three fields grow while it is written."""

    version: str
    channel: str
    kind: str
    since: datetime
    until: datetime
    columns: tuple[Column, ...]
    n_rows: int = 0
    shows: dict[int, ShowRow] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)

    def facts(self) -> dict[str, Any]:
        """Return the description without the columns."""
        return {
            "written_by": f"showmood {self.version}",
            "rows": self.kind,
            "n_rows": self.n_rows,
            "channel": self.channel,
            "since": stamp(self.since),
            "until": stamp(self.until),
            "time_zone": "UTC",
            "models": sorted(self.models),
            "shows": [
                {"broadcast_id": show.id, "show": show.title, "started_at": stamp(show.started_at)}
                for show in self.shows.values()
            ],
        }


def sidecar_of(meta: Meta) -> bytes:
    """Return the JSON description for a file format without metadata."""
    columns = [
        {"name": each.name, "type": each.kind, "unit": each.unit, "meaning": each.meaning}
        for each in meta.columns
    ]
    text = json.dumps(meta.facts() | {"columns": columns}, indent=2, ensure_ascii=False)
    return f"{text}\n".encode()


def stamp(moment: datetime) -> str:
    """Return a time in UTC, always with microseconds and zone, so that a column has one format."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


@contextmanager
def _csv(file: BinaryIO, meta: Meta) -> Iterator[Write]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=False)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in meta.columns])
    times = [i for i, column in enumerate(meta.columns) if column.kind == "timestamp"]
    words = [i for i, column in enumerate(meta.columns) if column.kind == "string"]

    def cells(row: Sequence[Any]) -> list[Any]:
        out = list(row)
        for i in times:
            out[i] = out[i] and stamp(out[i])
        for i in words:
            out[i] = _no_formula(out[i])
        return out

    yield lambda rows: writer.writerows(map(cells, rows))
    text.flush()
    text.detach()


def _no_formula(value: str | None) -> str | None:
    """Return a text that a spreadsheet does not take for a formula."""
    return f"'{value}" if value and value.lstrip().startswith(_FORMULA) else value


@contextmanager
def _json(file: BinaryIO, meta: Meta) -> Iterator[Write]:
    names = [column.name for column in meta.columns]

    def write(rows: Rows) -> None:
        file.writelines(
            json_line(dict(zip(names, row, strict=True))).encode() + b"\n" for row in rows
        )

    yield write


def json_line(row: dict[str, Any]) -> str:
    """Return a row as one object."""
    return json.dumps(row, default=_plain, ensure_ascii=False)


def _plain(value: datetime | SupportsFloat) -> object:
    return stamp(value) if isinstance(value, datetime) else float(value)


@contextmanager
def _parquet(file: BinaryIO, meta: Meta) -> Iterator[Write]:
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as e:
        raise UsageError(
            "Parquet needs pyarrow: pip install 'showmood[parquet]', or choose --csv or --json"
        ) from e
    types = {
        "timestamp": arrow.timestamp("us", tz="UTC"),
        "bool": arrow.bool_(),
        "string": arrow.string(),
    }
    schema = arrow.schema(
        arrow.field(
            column.name,
            types[column.kind] if column.kind in types else getattr(arrow, column.kind)(),
            metadata={"unit": column.unit, "meaning": column.meaning},
        )
        for column in meta.columns
    ).with_metadata(_named(meta, late=False))
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:

        def write(rows: Rows) -> None:
            columns = [
                arrow.array(cells, type=each.type)
                for cells, each in zip(zip(*rows, strict=True), schema, strict=True)
            ]
            writer.write_table(arrow.table(columns, schema=schema))

        yield write
        writer.add_key_value_metadata(_named(meta, late=True))


def _named(meta: Meta, *, late: bool) -> dict[str, str]:
    """Return metadata for Parquet; late: the values known at the end, else those at the start."""
    return {
        f"showmood.{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in meta.facts().items()
        if (name in ("n_rows", "models", "shows")) == late
    }


WRITERS: Final[dict[Format, Callable[[BinaryIO, Meta], AbstractContextManager[Write]]]] = {
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}
