"""Adds shows to a prefect.yaml and removes them; the rest of the file stays as it is."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from flows.errors import UsageError
from flows.shows.showfile import WATCH, Deployment, read_showfile

ANCHOR: Final = "show"
"""YAML anchor in our prefect.yaml of the values that all shows share."""


def add_show(
    file: Path, *, name: str, slot: Mapping[str, str], parameters: Mapping[str, str], pool: str
) -> Deployment:
    """Add a show after the last deployment, and return it as it is read back.

    Raises UsageError for a name that exists and for invalid values; then the file is unchanged.
    """
    before = file.read_text(encoding="utf-8")
    if any(each.name == name for each in read_showfile(file)):
        raise UsageError(f"{name}: a show of this name exists; edit {file}, or choose another name")
    lines = before.splitlines()
    starts, end = _items(before)
    dash = len(lines[starts[-1]]) - len(lines[starts[-1]].lstrip()) if starts else 2
    head = [f"<<: *{ANCHOR}"]
    if f"&{ANCHOR}" not in before:
        head = [f"entrypoint: {WATCH}", f"work_pool: {{ name: {pool} }}", "tags: [showmood]"]
    elif pool != "shows":
        head.append(f"work_pool: {{ name: {pool} }}")
    made = [
        *head,
        f"name: {name}",
        f"parameters: {{ {_inline(parameters)} }}",
        "schedules:",
        f"  - {{ {_inline(slot)} }}",
    ]
    indented = [f"{' ' * dash}{'- ' if i == 0 else '  '}{line}" for i, line in enumerate(made)]
    while end > 0 and _is_aside(lines[end - 1]):
        end -= 1
    _write(file, before, [*lines[:end], "", *indented, *lines[end:]])
    try:
        return next(each for each in read_showfile(file) if each.name == name)
    except (UsageError, StopIteration):
        _replace(file, before)
        raise


def remove_show(file: Path, name: str) -> None:
    """Remove a show; comments before it stay, as they may be about several shows.

    Raises UsageError when there is no show of this name.
    """
    before = file.read_text(encoding="utf-8")
    there = [each.name for each in read_showfile(file)]
    if name not in there:
        shows = ", ".join(each.name for each in read_showfile(file) if each.is_show)
        raise UsageError(f"{name}: there is no such show in {file.name}; there are {shows}")
    if len(there) == 1:
        raise UsageError(f"{name}: it is the last one in {file.name}; delete the file instead")
    lines = before.splitlines()
    starts, end = _items(before)
    begin = starts[there.index(name)]
    stop = min((start for start in starts if start > begin), default=end)
    while stop > begin + 1 and _is_aside(lines[stop - 1]):
        stop -= 1  # comments and blank lines before the next show belong to that one
    if stop < len(lines) and not lines[stop].strip():
        stop += 1
    _write(file, before, [*lines[:begin], *lines[stop:]])
    try:
        left = [each.name for each in read_showfile(file)]
        if left != [each for each in there if each != name]:
            raise UsageError(f"{file} is laid out so that this command cannot edit it: edit it")
    except UsageError:
        _replace(file, before)
        raise


def _items(content: str) -> tuple[list[int], int]:
    """Return the first line of each deployment, from 0, and the line after the last one."""
    root: Any = YAML(typ="rt").load(content)
    items = root["deployments"]
    if items.fa.flow_style():
        raise UsageError("the list of deployments is written on one line: edit it")
    starts = [items.lc.item(i)[0] for i in range(len(items))]
    after = sorted(root.lc.key(key)[0] for key in root if key != "deployments")
    last = starts[-1] if starts else root.lc.key("deployments")[0]
    return starts, min((line for line in after if line > last), default=len(content.splitlines()))


def _is_aside(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _inline(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {_scalar(value)}" for key, value in values.items())


def _scalar(value: str) -> str:
    """Write a string as YAML: plain where that reads back as itself, else as JSON."""
    plain = value.replace("-", "").replace("_", "").replace("/", "").isalnum()
    if plain and YAML(typ="safe", pure=True).load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _write(file: Path, before: str, lines: list[str]) -> None:
    newline = "\r\n" if "\r\n" in before else "\n"
    _replace(file, newline.join(lines).rstrip() + newline)


def _replace(file: Path, content: str) -> None:
    """Replace the file atomically: on a full disk, a part of it would lose shows."""
    file = file.resolve()
    unfinished: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=file.parent, prefix=f".{file.name}.", delete=False
        ) as new:
            unfinished = Path(new.name)
            new.write(content.encode())
            new.flush()
            os.fsync(new.fileno())
        shutil.copymode(file, unfinished)
        unfinished.replace(file)
    except OSError as e:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
        raise UsageError(f"{file} cannot be written, and is unchanged: {e.strerror}") from e
