"""Names that saved workflows rely on: a renamed node goes on answering to its old id.

Ids of nodes, inputs and outputs never change (tests/nodes/names.json lists them); what is shown, the display
name, may. A node that needs another id is entered in RENAMED under the old one.
"""

from __future__ import annotations

from comfy_api.latest import io

RENAMED: dict[str, type[io.ComfyNode]] = {}
"""{old id: the node as it is called now}."""


def alias(old_id: str, node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The same node under an older id: workflows find it, the menu does not offer it."""

    class Alias(node):
        @classmethod
        def define_schema(cls) -> io.Schema:
            schema = super().define_schema()
            schema.node_id, schema.is_deprecated = old_id, True
            return schema

    return Alias
