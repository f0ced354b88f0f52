"""The types that travel between our nodes, and what their schemas share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from comfy_api.latest import io

CATEGORY = "AAI Sound Tokens"
SOUNDWORLD, NONE = "SoundWorld", "none"
"""Choices of a combo that are no file or folder."""

SoundEncoderType = io.Custom("SOUND_ENCODER")
SoundEmbeddingType = io.Custom("SOUND_EMBEDDING")
SoundTokenType = io.Custom("SOUND_TOKEN")
AttentionMapsType = io.Custom("ATTENTION_MAPS")


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


def seed_input(made: str) -> io.Int.Input:
    """The seed of a node that trains what is `made`."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip=f"The same seed and inputs give the same {made}; on a GPU, up to rounding.",
    )
