"""The types that travel between our nodes."""

from __future__ import annotations

from dataclasses import fields

from comfy_api.latest import io

CATEGORY = "AAI Sound Tokens"
SOUNDWORLD = "SoundWorld"

SoundEncoderType = io.Custom("SOUND_ENCODER")
SoundEmbeddingType = io.Custom("SOUND_EMBEDDING")
SoundTokenType = io.Custom("SOUND_TOKEN")
AttentionMapsType = io.Custom("ATTENTION_MAPS")


def search_aliases(*words: str) -> dict[str, list[str]]:
    """More words by which the menu finds a node, for io.Schema; nothing where ComfyUI does not know them."""
    known = any(field.name == "search_aliases" for field in fields(io.Schema))
    return {"search_aliases": list(words)} if known else {}
