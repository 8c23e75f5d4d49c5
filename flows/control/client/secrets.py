"""Reads secrets from Prefect's Secret blocks, when they are needed; they are not stored."""

from typing import Any, Final

from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL

_MAX_CHARS: Final = 512 * 1024


def secret_of(name: str) -> str:
    """Return a Secret block's text; raises ValueError, without the secret."""
    if not PREFECT_API_URL.value():  # Prefect would start a temporary server without blocks
        raise ValueError(
            f"the secret {name!r} is read from a Prefect server, and none is named here: "
            'eval "$(showmood env)"'
        )
    try:
        load: Any = Secret.load  # mypy does not see how it dispatches
        held = load(name, _sync=True).get()
    except Exception as e:  # noqa: BLE001 - any error becomes one line
        if isinstance(e, ValueError):
            wish = "there is no such block: make it in the UI, under Blocks, with type Secret"
        else:
            wish = f"the Prefect server does not answer as it should ({type(e).__name__})"
        raise ValueError(f"the Secret block {name!r} can't be read: {wish}") from None
    if not isinstance(held, str) or not held or len(held) > _MAX_CHARS:
        raise ValueError(f"the Secret block {name!r} holds no text")
    return held
