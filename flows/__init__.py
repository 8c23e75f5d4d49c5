"""The Prefect flows and the command line.

Turns off telemetry here, because every module that imports Prefect imports this package first.
"""

import os
from typing import Final

NO_TELEMETRY: Final = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DENO_NO_UPDATE_CHECK": "1",
}
"""Environment that turns off telemetry of Prefect, and of the Deno that yt-dlp runs."""

os.environ.update(NO_TELEMETRY)
