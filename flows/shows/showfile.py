"""Reads prefect.yaml as a list of shows, and checks it before Prefect gets it.

An error is one line that names the show and the slot.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flows.errors import UsageError
from flows.show import Show, make_show
from flows.shows.slots import Slot

WATCH: Final = "flows.watch.watch_show"
"""Entrypoint of a deployment that is a show; of others only the slots are checked."""

_BY_FILE: Final = re.compile(r"(flows(?:/\w+)+)\.py:(\w+)")

Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotOf:
    """A slot with the show's parameters in it; show: None where the URL is a template."""

    slot: Slot
    show: Show | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """A deployment of the file. show: None for other flows, and where no URL is given."""

    name: str
    entrypoint: str
    pool: str
    show: Show | None
    slots: tuple[SlotOf, ...]

    @property
    def is_show(self) -> bool:
        """Return whether its flow is watch_show."""
        return self.entrypoint == WATCH


def by_module(entrypoint: str) -> str:
    """Return an entrypoint of ours in module form, also for the older form `flows/x.py:flow`.

    A module is found on every machine where Showmood is installed, a file path is not.
    """
    found = _BY_FILE.fullmatch(entrypoint)
    return f"{found[1].replace('/', '.')}.{found[2]}" if found else entrypoint


def read_showfile(file: Path) -> list[Deployment]:
    """Return the deployments of a prefect.yaml, all of them checked.

    Raises UsageError, one line, for the first mistake.
    """
    try:
        content = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"{file}: {e.strerror}") from e
    except (YAMLError, UnicodeDecodeError) as e:
        mark = getattr(e, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = getattr(e, "problem", None) or str(e).splitlines()[0]
        raise UsageError(f"{file.name}{where}: {what}") from e
    if not isinstance(content, dict) or not isinstance(content.get("deployments"), list):
        raise UsageError(f"{file.name}: it has no list of deployments")
    found = [_read(number, each) for number, each in enumerate(content["deployments"], 1)]
    seen: set[tuple[str, str]] = set()
    for each in found:
        if (each.entrypoint, each.name) in seen:
            raise UsageError(f"{each.name}: two deployments have this name; rename one")
        seen.add((each.entrypoint, each.name))
    return found


def _read(number: int, values: object) -> Deployment:
    name = values.get("name") if isinstance(values, dict) else None
    if not isinstance(values, dict) or not isinstance(name, str):
        raise UsageError(f"deployment {number}: it has no name")
    try:
        entrypoint, pool = values.get("entrypoint"), values.get("work_pool")
        if not isinstance(entrypoint, str):
            raise UsageError(f"no entrypoint; a show's is {WATCH}")
        entrypoint = by_module(entrypoint)
        if not isinstance(pool, dict) or not isinstance(pool.get("name"), str):
            raise UsageError("no work_pool; write work_pool: { name: shows }")
        parameters = values.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise UsageError("parameters: not a mapping")
        is_show = entrypoint == WATCH
        show = _show(parameters) if is_show else None
        slots = tuple(_slots(values.get("schedules") or (), parameters, is_show=is_show))
    except UsageError as e:
        raise UsageError(f"{name}: {e}") from e
    return Deployment(name=name, entrypoint=entrypoint, pool=pool["name"], show=show, slots=slots)


def _slots(given: object, parameters: Values, *, is_show: bool) -> Iterator[SlotOf]:
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise UsageError("schedules: not a list")
    seen: set[str] = set()
    for number, values in enumerate(given, 1):
        slug = values.get("slug") if isinstance(values, dict) else None
        if not isinstance(values, dict) or not isinstance(slug, str) or not slug:
            raise UsageError(f"slot {number}: no slug; give each slot a unique one")
        if slug in seen:
            raise UsageError(f"slot {slug}: two slots have this slug; rename one")
        seen.add(slug)
        try:
            yield _slot(slug, values, parameters, is_show=is_show)
        except UsageError as e:
            raise UsageError(f"slot {slug}: {e}") from e


def _slot(slug: str, values: dict[str, Any], parameters: Values, *, is_show: bool) -> SlotOf:
    known = {"slug", "cron", "rrule", "timezone", "active", "parameters", "replaces", "day_or"}
    if unknown := sorted(set(values) - known):
        raise UsageError(f"{unknown[0]}: unknown key; a slot has {', '.join(sorted(known))}")
    slot = Slot.of(
        slug=slug,
        cron=values.get("cron"),
        rrule=values.get("rrule"),
        timezone=values.get("timezone"),
        active=values.get("active") is not False,
    )
    own = values.get("parameters") or {}
    if not isinstance(own, dict):
        raise UsageError("parameters: not a mapping")
    show = _show({**parameters, **own}) if is_show else None
    if is_show and show is None and not _is_template({**parameters, **own}.get("url")):
        raise UsageError("no url: add it to the parameters of the show or of this slot")
    return SlotOf(slot=slot, show=show)


def _show(parameters: Values) -> Show | None:
    """Check parameters, except for templates ({{ ... }}), which Prefect fills in.

    Raises UsageError that names the parameter.
    """
    known = {name: value for name, value in parameters.items() if not _is_template(value)}
    if known.get("name") == "":
        del known["name"]
    if unknown := sorted(set(known) - set(Show.model_fields)):
        names = ", ".join(Show.model_fields)
        raise UsageError(f"{unknown[0]}: unknown parameter; a show has {names}")
    show = make_show(**({"url": "https://example.org/"} | known))
    return show if "url" in known else None


def _is_template(value: object) -> bool:
    return isinstance(value, str) and "{{" in value
