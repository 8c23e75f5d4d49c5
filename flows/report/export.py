"""Exports a channel's history to files, row by row; a file appears only when it is complete."""

import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from sqlalchemy import Connection

from db.reading import frames
from db.reading.history import VIEWS, Batch, Kind, columns_of, read_rows
from flows.errors import UsageError
from flows.report import openface
from flows.report.file_formats import OFFSET, WRITERS, Column, Format, Meta, sidecar_of

STDOUT: Final = Path("-")
Words = Literal["showmood", "openface"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """The result of an export. sidecar: the file that describes it, where its format can't."""

    n_rows: int
    sidecar: Path | None


def export_rows(
    connection: Connection,
    channel: str,
    since: datetime,
    until: datetime,
    path: Path,
    *,
    form: Format,
    kind: Kind = "faces",
    words: Words = "showmood",
    show_ids: Collection[int] | None = None,
    on_progress: Callable[[float], None] = lambda done_s: None,
) -> Exported:
    """Write a channel's rows of [since, until) into a file, or to stdout for `STDOUT`.

    words: "openface": a row for every analysed frame, with the columns of OpenFace and py-feat.

    The columns are those of the view, and `offset_s`: seconds since the show's start. Times are UTC
    with microseconds; unknown values are empty (CSV) or null. In CSV, a title that is a formula in
    a spreadsheet gets a ' before it. JSON is one object a line. A file appears only when it is
    complete; its columns are described in it (Parquet) or in a sidecar file. show_ids: only these
    shows. on_progress: called with the seconds of [since, until) done.

    Raises UsageError if it can't be written, or Parquet's library is not installed;
    db.errors.UnknownChannel.
    """
    table = _openface(connection) if words == "openface" else of_view(connection, kind)
    of_models = [i for i, each in enumerate(table.columns) if each.name in ("model", "models")]
    meta = Meta(
        version=version("showmood"),
        channel=channel,
        kind=table.kind,
        since=since.astimezone(UTC),
        until=until.astimezone(UTC),
        columns=table.columns,
    )
    with _opened(path) as file, WRITERS[form](file, meta) as write:
        for batch in table.read(channel, since, until, show_ids=show_ids):
            began = batch.show.started_at
            rows = [
                table.row(batch.show.id, round((row[table.at] - began).total_seconds(), 6), row)
                for row in batch.rows
            ]
            write(rows)
            meta.n_rows += len(rows)
            meta.shows.setdefault(batch.show.id, batch.show)
            for i in of_models:
                meta.models.update(row[i] for row in rows if row[i])
            on_progress((batch.until - since).total_seconds())
    sidecar = None
    if path != STDOUT and form != "parquet":
        sidecar = path.with_name(f"{path.name}.meta.json")
        with _opened(sidecar) as file:
            file.write(sidecar_of(meta))
    return Exported(n_rows=meta.n_rows, sidecar=sidecar)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """How rows are read and written. at: index of a row's time."""

    kind: str
    columns: tuple[Column, ...]
    at: int
    read: Callable[..., Iterator[Batch]]
    row: Callable[[int, float, Sequence[Any]], tuple[Any, ...]]


def of_view(connection: Connection, kind: Kind) -> Table:
    """Return the table of a kind of rows."""
    columns = [Column.of(each) for each in columns_of(connection, kind)]
    # The view's offset_s is the frame's offset in its file.
    columns = [
        replace(each, name="file_offset_s") if each.name == "offset_s" else each for each in columns
    ]
    return Table(
        kind=kind,
        columns=(*columns, OFFSET),
        at=[column.name for column in columns].index(VIEWS[kind].at),
        read=partial(read_rows, connection, kind=kind),
        row=lambda show, offset_s, row: (*row, offset_s),
    )


def _openface(connection: Connection) -> Table:
    return Table(
        kind="frames with their faces",
        columns=openface.COLUMNS,
        at=frames.COLUMNS.index("ts"),
        read=partial(frames.read_frames, connection),
        row=openface.row_of,
    )


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name when it is complete; or stdout."""
    if path == STDOUT:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the reader closed the pipe, like head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    except OSError as e:
        raise UsageError(f"{path} cannot be written: {e.strerror or e}") from e
    finally:
        part.unlink(missing_ok=True)
