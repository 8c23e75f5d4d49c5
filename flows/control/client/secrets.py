"""Secrets by the names of Prefect's Secret blocks, read when they are needed and kept nowhere."""

from typing import Any, Final

from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL

_MAX_CHARS: Final = 512 * 1024


def secret_of(name: str) -> str:
    """Return what a Secret block holds; raises ValueError, which says nothing of it."""
    if not PREFECT_API_URL.value():  # Prefect would start a server of its own, and find nothing
        raise ValueError(
            f"the secret {name!r} is read from a Prefect server, and none is named here: "
            'eval "$(showmood env)"'
        )
    try:
        load: Any = Secret.load  # mypy does not see how it dispatches
        held = load(name, _sync=True).get()
    except Exception as e:  # noqa: BLE001 - whatever is wrong, it is said in one line
        why = "no such block" if isinstance(e, ValueError) else type(e).__name__
        raise ValueError(
            f"the Secret block {name!r} can't be read ({why}): make it in the UI, under Blocks"
        ) from None
    if not isinstance(held, str) or not held or len(held) > _MAX_CHARS:
        raise ValueError(f"the Secret block {name!r} holds no text")
    return held
