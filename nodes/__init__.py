"""The nodes: one file per stage, each with the list NODES."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import (
    adapt,
    adapters,
    align,
    examples,
    film,
    flow_edit,
    folders,
    inject,
    loudness,
    references,
    sound,
    soundworld,
    tokens,
    visualize,
)


class SoundTokens(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        folders.register()
        examples.place()
        return [
            *soundworld.NODES,
            *sound.NODES,
            *align.NODES,
            *references.NODES,
            *adapt.NODES,
            *adapters.NODES,
            *tokens.NODES,
            *inject.NODES,
            *loudness.NODES,
            *flow_edit.NODES,
            *film.NODES,
            *visualize.NODES,
        ]
