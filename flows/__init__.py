"""The flows, and the command line on top of all rooms.

Prefect reports how it is used, and says so in a terminal, as soon as it is imported. Whatever of
ours imports it has imported this package before.
"""

import os
from typing import Final

QUIET: Final = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DENO_NO_UPDATE_CHECK": "1",
}
"""Settings that turn off telemetry of Prefect, and of the Deno that yt-dlp runs."""

os.environ.update(QUIET)
