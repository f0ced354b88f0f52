"""The types that travel between our nodes, and what their schemas share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps

from comfy_api.latest import io

from ..aai.errors import InputError

CATEGORY = "AAI Sound Tokens"
SOUNDWORLD, NONE = "SoundWorld", "none"
"""Choices of a combo that are no file or folder."""

SoundEncoderType = io.Custom("SOUND_ENCODER")
SoundEmbeddingType = io.Custom("SOUND_EMBEDDING")
SoundTokenType = io.Custom("SOUND_TOKEN")
SoundAdapterType = io.Custom("SOUND_ADAPTER")
AttentionMapsType = io.Custom("ATTENTION_MAPS")
SoundTimelineType = io.Custom("SOUND_TIMELINE")
JSON = {
    **{str: "a text", bool: "yes or no", int: "a number", float: "a number"},
    **{list: "a list", dict: "an object"},
}
"""What a graph that is posted to ComfyUI may hold in a link's place, in words."""


class Node(io.ComfyNode):
    """The base of every node: an input without a widget takes what another node gave and nothing else.

    ComfyUI compares the types of links, but passes on what stands in a link's place in a posted graph.
    """

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        execute = cls.__dict__["execute"].__func__
        # ComfyUI clones a node's class for each run, with the `execute` that it has by then.
        if not hasattr(execute, "__wrapped__"):
            cls.execute = classmethod(_refusing_literals(execute))


def _refusing_literals(execute: Callable) -> Callable:
    @wraps(execute)
    def checked(cls, **inputs) -> io.NodeOutput:
        for slot in cls.SCHEMA.inputs:
            given = inputs.get(slot.id)
            if given is None and slot.get_io_type() == "SOUND_EMBEDDING" and not slot.optional:
                raise InputError(
                    f"{cls.SCHEMA.display_name} got no sound: Encode Sound's second and third need "
                    "its sounds set to 2 or 3."
                )
            if not isinstance(slot, io.WidgetInput) and given is not None and _is_literal(given):
                raise InputError(
                    f"{cls.SCHEMA.display_name} takes '{slot.id}' from another node's {slot.get_io_type()} "
                    f"output, and was given {JSON[type(given)]}: connect a node."
                )
        return execute(cls, **inputs)

    return checked


def _is_literal(value: object) -> bool:
    """Whether JSON can hold a value: what nodes give holds a tensor or an object somewhere."""
    if isinstance(value, (list, dict)):
        return all(map(_is_literal, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, (str, bool, int, float))


def search_aliases(*words: str) -> dict[str, list[str]]:
    """More words by which the menu finds a node, for io.Schema; nothing where ComfyUI does not know them."""
    known = any(field.name == "search_aliases" for field in fields(io.Schema))
    return {"search_aliases": list(words)} if known else {}


def fold(schema: io.Schema, in_sight: Sequence[str]) -> io.Schema:
    """The schema with every widget but those `in_sight` marked advanced, which the front end shows on demand;
    as it is where ComfyUI does not know the mark (0.3.64)."""
    for slot in schema.inputs:
        if isinstance(slot, io.WidgetInput) and hasattr(slot, "advanced") and slot.id not in in_sight:
            slot.advanced = True
    return schema
