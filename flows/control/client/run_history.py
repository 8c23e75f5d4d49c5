"""Deletes our old runs from a Prefect server, with their logs and artifacts.

The embedded server's vacuum does it, too; this is for other servers, and for what that leaves.
"""

from datetime import datetime
from typing import Final

import httpx

FLOWS: Final = ("watch-show", "maintain", "analyse-recording", "clip-moment")
OVER: Final = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
PAGE: Final = 100


def forget_runs(http: httpx.Client, *, before: datetime) -> int:
    """Delete our runs that ended before an aware time, with their artifacts; return how many.

    http: a client of the server's API. Runs that cannot be deleted are left for the next time.

    Raises httpx.HTTPError when the server does not answer.
    """
    query = {
        "flows": {"name": {"any_": list(FLOWS)}},
        "flow_runs": {
            "state": {"type": {"any_": list(OVER)}},
            "end_time": {"before_": before.isoformat()},
        },
        "sort": "END_TIME_DESC",
        "limit": PAGE,
    }
    n_deleted, n_kept = 0, 0
    while True:
        page = query | {"offset": n_kept}
        runs = http.post("/flow_runs/filter", json=page).raise_for_status().json()
        for run in runs:
            _forget_artifacts(http, run["id"])
            deleted = http.delete(f"/flow_runs/{run['id']}").is_success
            n_deleted, n_kept = n_deleted + deleted, n_kept + (not deleted)
        if len(runs) < PAGE:
            return n_deleted


def _forget_artifacts(http: httpx.Client, run_id: str) -> None:
    query = {"artifacts": {"flow_run_id": {"any_": [run_id]}}, "limit": PAGE}
    for artifact in http.post("/artifacts/filter", json=query).raise_for_status().json():
        http.delete(f"/artifacts/{artifact['id']}")
