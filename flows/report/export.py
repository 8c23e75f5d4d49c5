"""A channel's history as files for other programs, written as it is read, whole or not at all."""

import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Final

from sqlalchemy import Connection

from db.reading.history import VIEWS, Kind, columns_of, read_rows
from flows.errors import UsageError
from flows.report.file_formats import OFFSET, WRITERS, Column, Format, Meta, sidecar_of

STDOUT: Final = Path("-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What an export wrote. sidecar: the file that describes it, where its form can't."""

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
    show_ids: Collection[int] | None = None,
    tell: Callable[[float], None] = lambda done_s: None,
) -> Exported:
    """Write a channel's rows of [since, until) into a file, or to stdout for `STDOUT`.

    The columns are those of the view, and `offset_s`: seconds since the show's start. Times are UTC
    with microseconds, what is unknown is empty (CSV) or null. A title that a spreadsheet would run
    begins with ' in CSV. JSON is one object a line. A file is there only when it is whole; what its
    columns mean is in it (Parquet) or in a file beside it. show_ids: of these shows alone. tell:
    told how many seconds of [since, until) are done.

    Raises UsageError when it can't be written, or when Parquet's library is not installed, and
    db.errors.UnknownChannel.
    """
    columns = [Column.of(each) for each in columns_of(connection, kind)]
    columns.append(OFFSET)
    at = [column.name for column in columns].index(VIEWS[kind].at)
    of_models = [i for i, column in enumerate(columns) if column.name in ("model", "models")]
    meta = Meta(
        version=version("showmood"),
        channel=channel,
        kind=kind,
        since=since.astimezone(UTC),
        until=until.astimezone(UTC),
        columns=tuple(columns),
    )
    with _opened(path) as file, WRITERS[form](file, meta) as write:
        for batch in read_rows(connection, channel, since, until, kind=kind, show_ids=show_ids):
            began = batch.show.started_at
            rows = [(*row, round((row[at] - began).total_seconds(), 6)) for row in batch.rows]
            write(rows)
            meta.n_rows += len(rows)
            meta.shows.setdefault(batch.show.id, batch.show)
            for i in of_models:
                meta.models.update(row[i] for row in rows if row[i])
            tell((batch.until - since).total_seconds())
    sidecar = None
    if path != STDOUT and form != "parquet":
        sidecar = path.with_name(f"{path.name}.meta.json")
        with _opened(sidecar) as file:
            file.write(sidecar_of(meta))
    return Exported(n_rows=meta.n_rows, sidecar=sidecar)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file that has its name when it is whole; or stdout."""
    if path == STDOUT:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # whoever reads has enough, as head has
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
