"""The nodes: one file per stage, each with the list NODES."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import adapt, align, examples, hear, inject, library, look, names, world


class SoundTokens(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        examples.place()
        nodes = [
            *world.NODES,
            *hear.NODES,
            *align.NODES,
            *library.NODES,
            *adapt.NODES,
            *inject.NODES,
            *look.NODES,
        ]
        return nodes + [names.alias(old, node) for old, node in names.RENAMED.items()]
