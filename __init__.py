"""ComfyUI's door to the pack."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes import SoundTokens

    return SoundTokens()
