"""A channel's history as a file: CSV, JSON lines or Parquet, written as it is read."""

import csv
import importlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

from sqlalchemy import Connection

from db.models import AFFECT, EMOTIONS
from db.reading.history import COLUMNS, read_history
from flows.errors import UsageError

Format = Literal["csv", "json", "parquet"]
FORMATS: Final = get_args(Format)

_FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula, in both widths."""

Rows = Sequence[Sequence[Any]]


def export_history(
    connection: Connection,
    channel: str,
    since: datetime,
    until: datetime,
    path: Path,
    *,
    form: Format,
) -> int:
    """Write every face of [since, until) into a file; return how many rows it has.

    The columns are those of `emotion_history`, times are UTC, what is unknown is empty (CSV) or
    null. A title that a spreadsheet would run begins with ' in CSV. JSON is one object a line. The
    file is there only when it is whole.

    Raises UsageError when it can't be written, or when Parquet's library is not installed, and
    db.errors.UnknownChannel.
    """
    n_rows = 0
    part = path.with_name(f".{path.name}.part")
    try:
        with _WRITERS[form](part) as write:
            for rows in read_history(connection, channel, since, until):
                write(rows)
                n_rows += len(rows)
        os.replace(part, path)
    except OSError as e:
        raise UsageError(f"{path} cannot be written: {e.strerror or e}") from e
    finally:
        part.unlink(missing_ok=True)
    return n_rows


@contextmanager
def _csv(path: Path) -> Iterator[Callable[[Rows], None]]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        yield lambda rows: writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: object) -> object:
    """Return a value as a spreadsheet is to read it: no title is a formula."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.lstrip().startswith(_FORMULA):
        return f"'{value}"
    return value


@contextmanager
def _json(path: Path) -> Iterator[Callable[[Rows], None]]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda rows: file.writelines(
            json.dumps(
                dict(zip(COLUMNS, row, strict=True)), default=datetime.isoformat, ensure_ascii=False
            )
            + "\n"
            for row in rows
        )


@contextmanager
def _parquet(path: Path) -> Iterator[Callable[[Rows], None]]:
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as e:
        raise UsageError(
            "Parquet needs pyarrow: pip install 'showmood[parquet]', or choose --csv or --json"
        ) from e
    real = dict.fromkeys(("score", "x0", "y0", "x1", "y1", *EMOTIONS, *AFFECT), arrow.float32())
    known = {
        "ts": arrow.timestamp("us", tz="UTC"),
        "track": arrow.int32(),
        "broadcast_id": arrow.int32(),
        **real,
    }
    schema = arrow.schema([(name, known.get(name, arrow.string())) for name in COLUMNS])
    with parquet.ParquetWriter(str(path), schema, compression="zstd") as writer:

        def write(rows: Rows) -> None:
            columns = [
                arrow.array(cells, type=field.type)
                for cells, field in zip(zip(*rows, strict=True), schema, strict=True)
            ]
            writer.write_table(arrow.table(columns, schema=schema))

        yield write


_WRITERS: Final = {"csv": _csv, "json": _json, "parquet": _parquet}
