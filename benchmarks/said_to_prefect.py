"""The requests of a watcher to Prefect's server per minute of a show, with the same client."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from flows.control.heartbeat import Heartbeat


@dataclass(frozen=True, kw_only=True, slots=True)
class SaidToPrefect:
    """A flow run with the requests of a watcher. minute: its task run of a minute."""

    client: "SyncPrefectClient"
    run_id: UUID
    minute: Callable[[], object]
    _artifacts: tuple[UUID, UUID]
    _heartbeat: "Heartbeat"

    def state(self, number: int) -> None:
        """Send the state and the progress of a minute."""
        from prefect.client.schemas.actions import ArtifactUpdate
        from prefect.states import Running

        said = f"live, {number * 30} segments, 0.7 s behind"
        self.client.set_flow_run_state(self.run_id, Running(message=said))
        self.client.update_artifact(self._artifacts[1], ArtifactUpdate(data=number / 1.8))

    def report(self, text: str) -> None:
        """Send the report."""
        from prefect.client.schemas.actions import ArtifactUpdate

        self.client.update_artifact(self._artifacts[0], ArtifactUpdate(data=text))

    def beat(self, times: int) -> None:
        """Send heartbeats."""
        from flows.control.healing import ALIVE

        for _ in range(times):
            self._heartbeat._beat_once(self.client, ALIVE)


def run_a_show(report: str, say: Callable[[SaidToPrefect], Any]) -> None:
    """Call `say` within a flow run at the server of the environment. report: the first one."""
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.runtime import flow_run
    from prefect.states import Completed

    from flows.control.heartbeat import Heartbeat

    @task(name="analyse-segments", cache_policy=NO_CACHE, persist_result=False)
    def minute() -> object:
        return Completed(message="30 segments, 300 frames, 411 faces, 0.7 s behind")

    @flow(name="overhead", persist_result=False)
    def show() -> None:
        run_id = UUID(flow_run.id)
        with get_client(sync_client=True) as client:
            words, progress = (
                client.create_artifact(
                    ArtifactCreate(type=kind, key=f"{kind}-x", data=data, flow_run_id=run_id)
                ).id
                for kind, data in (("markdown", report), ("progress", 0.0))
            )
            say(
                SaidToPrefect(
                    client=client,
                    run_id=run_id,
                    minute=minute,
                    _artifacts=(words, progress),
                    _heartbeat=Heartbeat(run_id, 1.0, Event()),
                )
            )

    show()
