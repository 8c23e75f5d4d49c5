"""Only a scheduled show's own runs can use its name."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from flows.control.ownership import name_of_run

NEWS, ADHOC, DEMO = UUID(int=1), UUID(int=2), UUID(int=3)
LIVE, LATE = "https://news.example/live", "https://news.example/late"


@dataclass
class Slot:
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class Deployment:
    id: UUID
    parameters: dict[str, Any]
    schedules: list[Slot] = field(default_factory=list)


DEPLOYED = [
    Deployment(NEWS, {"url": LIVE, "name": "news"}, [Slot(), Slot({"url": LATE})]),
    Deployment(NEWS, {"url": "https://talk.example/live"}, [Slot()]),
    Deployment(ADHOC, {}),
    Deployment(DEMO, {"url": "http://127.0.0.1:8099/live.m3u8", "name": "demo"}),
]


@pytest.mark.parametrize(
    ("slug", "url", "deployment", "name", "is_scheduled"),
    [
        pytest.param("news", LIVE, NEWS, "news", True, id="its slot"),
        pytest.param("news", LATE, NEWS, "news", True, id="its slot with a URL of its own"),
        pytest.param("news", "https://evil.example/", NEWS, "adhoc-news", False, id="another URL"),
        pytest.param("news", LIVE, ADHOC, "adhoc-news", False, id="ad hoc"),
        pytest.param("news", LIVE, None, "adhoc-news", False, id="of no deployment"),
        pytest.param("talk-live", LIVE, ADHOC, "adhoc-talk-live", False, id="made of a URL"),
        pytest.param("other", LIVE, ADHOC, "other", False, id="a free name"),
        pytest.param("demo", LIVE, ADHOC, "demo", False, id="a show without slots"),
    ],
)
def test_an_unscheduled_run_gets_a_separate_name(
    slug: str, url: str, deployment: UUID | None, name: str, is_scheduled: bool
) -> None:
    assert name_of_run(slug, url, deployment, DEPLOYED) == (name, is_scheduled)


def test_no_unscheduled_run_keeps_the_name_of_a_slot() -> None:
    long = "x" * 63
    taken = [Deployment(NEWS, {"url": LIVE, "name": n}, [Slot()]) for n in (long, f"adhoc-{long}")]
    taken.append(Deployment(NEWS, {"url": LIVE, "name": f"adhoc-{long}"[:63]}, [Slot()]))
    name, _ = name_of_run(long, LIVE, ADHOC, taken)
    assert name.startswith("adhoc-")
    assert len(name) <= 63
    assert name not in {each.parameters["name"] for each in taken}
