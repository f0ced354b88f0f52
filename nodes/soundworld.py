"""SoundWorld, the embedded default: a small world with its own sounds, pictures and weights."""

from __future__ import annotations

import folder_paths
from comfy_api.latest import io

from .types import CATEGORY, Node, SoundEncoderType, search_aliases


class LoadSoundWorld(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_LoadSoundWorld",
            display_name="Load SoundWorld",
            category=CATEGORY,
            **search_aliases("demo model", "example checkpoint", "sound to image"),
            description=(
                "The pack's own small models, which need no download: 128x128 pictures, ten kinds of sound, "
                "five places. For trying workflows; connect your own checkpoint for real pictures."
            ),
            inputs=[],
            outputs=[
                io.Model.Output(
                    "model", display_name="model", tooltip="The diffusion model; works with KSampler."
                ),
                io.Clip.Output("clip", display_name="clip", tooltip="The text encoder, of width 192."),
                io.Vae.Output(
                    "vae",
                    display_name="vae",
                    tooltip="The autoencoder; works with VAE Decode and VAE Encode.",
                ),
                SoundEncoderType.Output(
                    "sound_encoder",
                    display_name="sound_encoder",
                    tooltip="Hears sounds in this text encoder's space.",
                ),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ..aai.soundworld.loaders import load_sound_encoder
        from .comfy import soundworld

        model, clip, vae = soundworld.load(embedding_folders=folder_paths.get_folder_paths("embeddings"))
        return io.NodeOutput(model, clip, vae, load_sound_encoder())


NODES = [LoadSoundWorld]
