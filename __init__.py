"""ComfyUI's door to the pack. A second copy's stays closed, so that nodes and views are of one copy."""

import sys
from pathlib import Path

WEB_DIRECTORY = "./web"


def _first_copy() -> str | None:
    """The folder in custom_nodes of another copy of the pack, whose nodes ComfyUI has already."""
    known = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {}).get("AAI_LoadAudio")
    folder = getattr(known, "RELATIVE_PYTHON_MODULE", "").removeprefix("custom_nodes.")
    return folder if folder and folder != Path(__file__).parent.name else None


FIRST_COPY = _first_copy()
if FIRST_COPY:
    WEB_DIRECTORY = None


async def comfy_entrypoint():
    if FIRST_COPY:
        raise RuntimeError(
            f"AAI Sound Tokens is in custom_nodes twice, and '{FIRST_COPY}' is in use: remove this copy or "
            "that one, and restart."
        )
    from .nodes import SoundTokens

    return SoundTokens()
