"""The types that travel between our nodes."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "AAI Sound Tokens"
SOUNDWORLD = "SoundWorld"

SoundEncoderType = io.Custom("SOUND_ENCODER")
SoundEmbeddingType = io.Custom("SOUND_EMBEDDING")
SoundTokenType = io.Custom("SOUND_TOKEN")
AttentionMapsType = io.Custom("ATTENTION_MAPS")
