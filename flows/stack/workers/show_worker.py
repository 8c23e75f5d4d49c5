"""Prefect's process worker, and which runs it takes.

It runs as `python -m flows.stack.workers.show_worker worker start ...`.

If several workers serve a pool, runs that start at once are spread: each takes one at a time, and
waits longer the more it runs. A run of another version of Showmood is left to others.
"""

import shlex
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import anyio
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows.errors import UsageError
from flows.settings import load_settings
from flows.shows.applying import VERSION, version_of
from flows.stack.workers.machine import is_behind

if TYPE_CHECKING:
    from prefect.client.schemas.responses import WorkerFlowRunResponse

DEFER_S: Final = 1.0
"""Seconds per running run that a worker leaves a new run to others."""

MAX_DEFER_S: Final = 4.0
BEHIND_S: Final = 30.0
"""Most seconds that a machine which is behind leaves a run to others."""

KNOWN_FOR_S: Final = 10.0
"""Least seconds between two checks of deployments' versions and the pool's other workers."""


class ShowConfiguration(ProcessJobConfiguration):
    """Starts a run by Showmood's command and this machine's Python, unless the pool sets one."""

    def prepare_for_flow_run(self, *given: Any, **named: Any) -> None:  # noqa: ANN401 - as it comes
        """Fill in the command."""
        if self.command is None:
            self.command = f"{shlex.quote(sys.executable)} -m flows.begin"
        super().prepare_for_flow_run(*given, **named)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that the type exists already: this one replaces it

    class ShowWorker(ProcessWorker):
        """Prefect's process worker, with this module's rules for taking runs."""

        type = "process"
        job_configuration = ShowConfiguration

        _seen_at: dict[UUID, float]
        _versions: dict[UUID, tuple[float, str | None]]
        _others: tuple[float, bool] = (0.0, False)

        async def _get_scheduled_flow_runs(self) -> "list[WorkerFlowRunResponse]":
            found = await super()._get_scheduled_flow_runs()
            before = getattr(self, "_seen_at", {})
            now = time.monotonic()
            self._seen_at = {each.flow_run.id: before.get(each.flow_run.id, now) for each in found}
            fitting = [each for each in found if await self._fits(each.flow_run.deployment_id)]
            # A run that is rescheduled before its last process was reported still holds its slot:
            # asking for a second one ends Prefect's worker, with all its runs (3.8.8).
            held = set(self._limiter.statistics().borrowers) if self._limiter else set()
            held |= self._submitting_flow_run_ids
            new = [each for each in fitting if each.flow_run.id not in held]
            if not new or not await self._has_others():
                return new
            waited_s = now - self._seen_at[new[0].flow_run.id]
            n_running = self._limiter.borrowed_tokens if self._limiter else 0
            if waited_s < min(n_running * DEFER_S, MAX_DEFER_S):
                return []
            if n_running and waited_s < BEHIND_S and await anyio.to_thread.run_sync(_is_behind):
                return []
            return new[:1]

        async def _fits(self, deployment: UUID | None) -> bool:
            """Return whether a run's deployment is of this version, or has none."""
            if deployment is None:
                return True
            known = self.__dict__.setdefault("_versions", {})
            at, version = known.get(deployment, (0.0, None))
            if time.monotonic() - at > KNOWN_FOR_S:
                try:
                    there = await self.client.read_deployment(deployment)
                except ObjectNotFound:  # deleted meanwhile, and its runs with it
                    return False
                version = version_of(there.version)
                if version not in (None, VERSION) and (
                    at == 0.0 or known[deployment][1] != version
                ):
                    self._logger.warning(
                        "%s is of Showmood %s, and this worker has %s: its runs are left to others",
                        there.name,
                        version,
                        VERSION,
                    )
                known[deployment] = (time.monotonic(), version)
            return version in (None, VERSION)

        async def _has_others(self) -> bool:
            """Return whether other workers serve the pool."""
            at, others = self._others
            if time.monotonic() - at > KNOWN_FOR_S:
                there = await self.client.read_workers_for_work_pool(self._work_pool_name)
                others = any(
                    w.name != self.name and str(w.status).endswith("ONLINE") for w in there
                )
                self._others = (time.monotonic(), others)
            return others


def _is_behind() -> bool:
    try:
        return is_behind(load_settings())
    except UsageError:
        return False


if __name__ == "__main__":
    from prefect.cli import app

    app()
