"""The automations for restarting shows, and the checks before a restart."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.server.events.schemas.automations import AutomationCore, EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent

from flows.control.healing import ALIVE, OVER, automations, was_cancelled
from flows.control.heartbeat import _event
from flows.errors import StackError
from flows.stack.processes.environment import prefect_database

RUN = uuid4()
SHOW = {"prefect.resource.id": f"prefect.flow.{uuid4()}", "prefect.resource.role": "flow"}
SHOW |= {"prefect.resource.name": "watch-show"}
OTHER = SHOW | {"prefect.resource.name": "maintain"}


def triggers(dead_after_s: float = 120) -> dict[str, EventTrigger]:
    """The automations as parsed by the server: silence, process and crash."""
    made = [AutomationCore.model_validate(each).trigger for each in automations(dead_after_s)]
    assert all(isinstance(each, EventTrigger) for each in made)
    return dict(zip(("silence", "process", "crash"), made, strict=True))


def received(event: str, *, of: dict[str, str] = SHOW, **labels: str) -> ReceivedEvent:
    """An event as received from the server itself, a watch or a worker."""
    run = {"prefect.resource.id": f"prefect.flow-run.{RUN}", "prefect.resource.name": "a show"}
    related = [of]
    if event.startswith("prefect.worker"):
        exit_code = {"prefect.infrastructure.status-code": labels.pop("status")}
        related.append(run | exit_code | {"prefect.resource.role": "flow-run"})
        run = {"prefect.resource.id": "prefect.worker.process.one"}
    given = {f"prefect.{name.replace('_', '-')}": value for name, value in labels.items()}
    return ReceivedEvent(
        id=uuid4(),
        event=event,
        occurred=datetime(2026, 11, 22, tzinfo=UTC),
        resource=run | given,
        related=related,
    )


def beat(event: str) -> ReceivedEvent:
    """A heartbeat, like that of a watch."""
    run = FlowRun(id=RUN, flow_id=uuid4(), name="a show")
    return ReceivedEvent.model_validate(_event(event, run, datetime(2026, 11, 22, tzinfo=UTC)))


def acts_on(trigger: EventTrigger, event: ReceivedEvent) -> bool:
    return trigger.covers(event) and trigger.expects(event.event)


@pytest.mark.parametrize("begins", [beat(ALIVE), received("prefect.flow-run.Running")])
@pytest.mark.parametrize(
    "ends",
    [
        beat(ALIVE),
        beat(OVER),
        *(
            received(f"prefect.flow-run.{name}")
            for name in ("Completed", "Failed", "Cancelling", "Cancelled", "Skipped")
        ),
    ],
    ids=lambda event: event.event,
)
def test_silence_is_measured_between_heartbeats(begins: ReceivedEvent, ends: ReceivedEvent) -> None:
    silence = triggers(45)["silence"]
    assert silence.within == timedelta(seconds=45)
    assert silence.covers(begins)
    assert silence.starts_after(begins.event)
    assert acts_on(silence, ends)
    assert silence.bucketing_key(begins) == silence.bucketing_key(ends)
    assert silence.meets_threshold(0)
    assert not silence.meets_threshold(1)


@pytest.mark.parametrize(
    "event", ["prefect.flow-run.heartbeat", "prefect.flow-run.Crashed", "prefect.flow-run.Pending"]
)
def test_silence_is_not_ended_by_events_of_a_dead_run_or_another_clock(event: str) -> None:
    """Prefect's heartbeats have the worker's time: with a wrong clock, a show would look dead."""
    silence = triggers()["silence"]
    assert not acts_on(silence, received(event))
    assert not silence.starts_after(event)


def test_runs_of_other_flows_are_not_rescheduled() -> None:
    for trigger, event in (
        ("silence", received("prefect.flow-run.Running", of=OTHER)),
        ("process", received("prefect.worker.executed-flow-run", of=OTHER, status="1")),
        ("crash", received("prefect.flow-run.Crashed", of=OTHER, state_message="lost")),
    ):
        assert not triggers()[trigger].covers(event)


@pytest.mark.parametrize(("status", "expected"), [("-9", True), ("1", True), ("0", False)])
def test_a_crashed_process_is_rescheduled_after_its_workers_last_report(
    status: str, expected: bool
) -> None:
    process = triggers()["process"]
    said = received("prefect.worker.executed-flow-run", status=status)
    assert acts_on(process, said) is expected
    assert process.bucketing_key(said) == (f"prefect.flow-run.{RUN}",)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Flow run could not be submitted to infrastructure", True),
        ("Flow run process exited with non-zero status code -9.", False),
        ("Flow run infrastructure exited with non-zero status code 1.", False),
    ],
)
def test_a_crash_reported_twice_is_rescheduled_after_the_last_report(
    message: str, expected: bool
) -> None:
    crash = triggers()["crash"]
    crashed = received("prefect.flow-run.Crashed", state_message=message)
    assert acts_on(crash, crashed) is expected
    for name in ("Completed", "Cancelled", "Failed", "Cancelling"):
        assert not acts_on(crash, received(f"prefect.flow-run.{name}", state_message=message))


def test_database_that_prefect_cannot_use_is_one_clear_line(empty_database_url: str) -> None:
    with pytest.raises(StackError, match="pg_trgm") as raised:
        prefect_database(empty_database_url)
    assert "\n" not in str(raised.value)


def states(*names: str) -> list[State]:
    """Return a run's states, newest first; "silent" is set by the automation."""
    silent = automations(40)[0]["actions"][0]
    types = {"AwaitingRetry": "SCHEDULED", "Late": "SCHEDULED"}
    at = datetime(2026, 1, 1, tzinfo=UTC)
    made = [
        State(type=silent["state"], name=silent["name"], message=silent["message"], timestamp=when)
        if name == "silent"
        else State(type=types.get(name, name.upper()), name=name, timestamp=when)
        for i, name in enumerate(names)
        for when in [at + timedelta(seconds=i)]
    ]
    return made[::-1]


@pytest.mark.parametrize(
    ("had", "expected"),
    [
        ("Scheduled Pending Running", False),
        ("Scheduled Pending Running silent Pending Running", False),
        ("Scheduled Late Pending Running silent Late Pending Running", False),
        ("Scheduled Running Cancelling Cancelled silent Pending Running", True),
        ("Scheduled Running Cancelled Running silent Late Pending Running", True),
        ("Scheduled Running silent Running Cancelling silent Running", True),
        ("Scheduled Running Cancelled AwaitingRetry Pending Running", False),
        ("Scheduled Running Cancelled AwaitingRetry Running silent Running", False),
    ],
)
def test_cancelled_run_is_recognised_unless_it_was_rescheduled(had: str, expected: bool) -> None:
    assert was_cancelled(states(*had.split())) is expected
