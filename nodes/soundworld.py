"""SoundWorld, the embedded default: a small world with its own sounds, pictures and weights."""

from __future__ import annotations

import folder_paths
from comfy_api.latest import io

from .types import CATEGORY, Node, SoundEncoderType, search_aliases

PICTURE_MODELS = {"U-Net": "unet", "flow transformer": "flow"}


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
            inputs=[
                io.Combo.Input(
                    "picture_model",
                    display_name="picture_model",
                    options=list(PICTURE_MODELS),
                    default="U-Net",
                    optional=True,
                    tooltip=(
                        "What draws: a U-Net in Stable Diffusion's arrangement, for edits too, or a flow "
                        "transformer in Flux.1's, best at a cfg of 3. Both have the same text encoder."
                    ),
                )
            ],
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
    def execute(cls, picture_model: str = "U-Net") -> io.NodeOutput:
        from ..aai.soundworld.loaders import load_sound_encoder
        from .comfy import soundworld

        model, clip, vae = soundworld.load(
            embedding_folders=folder_paths.get_folder_paths("embeddings"),
            picture_model=PICTURE_MODELS[picture_model],
        )
        return io.NodeOutput(model, clip, vae, load_sound_encoder())


NODES = [LoadSoundWorld]
