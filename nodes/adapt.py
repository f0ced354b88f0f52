"""Adapting: a heard sound and some reference pictures become a sound token."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from .look import previews
from .pictures import as_image, curve_points, loss_curve, square
from .types import CATEGORY, SOUNDWORLD, SoundEmbeddingType, SoundEncoderType, SoundTokenType

log = logging.getLogger(__name__)

SIDE = 512
"""Side of the pictures that a folder gives, in pixels; training resizes them to the model's own."""


class RetrieveReferenceImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_RetrieveReferenceImages",
            display_name="Retrieve Reference Images",
            category=CATEGORY,
            description="The pictures of a library that look most like what a sound sounds like.",
            inputs=[
                SoundEmbeddingType.Input("embedding", tooltip="From Encode Sound."),
                SoundEncoderType.Input(
                    "sound_encoder", tooltip="The encoder that made the embedding; it also sees pictures."
                ),
                io.Combo.Input(
                    "library",
                    options=[SOUNDWORLD, *_folders()],
                    default=SOUNDWORLD,
                    tooltip="A folder of pictures inside the input folder, or SoundWorld's own pictures.",
                ),
                io.Int.Input(
                    "k", default=4, min=1, max=64, tooltip="How many pictures; the method takes 3 to 5."
                ),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="The pictures, best first."),
                io.String.Output(
                    "scores",
                    display_name="scores",
                    tooltip="Each picture's name and its cosine to the sound.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, library):
        if library != SOUNDWORLD and library not in _folders():
            return (
                f"There is no folder '{library}' in the input folder: make it and fill it, or choose another."
            )
        return True

    @classmethod
    def fingerprint_inputs(cls, library, k, **links):
        return [library, k, None if library == SOUNDWORLD else _stamp(_folder(library))]

    @classmethod
    def execute(cls, embedding, sound_encoder, library, k) -> io.NodeOutput:
        if library == SOUNDWORLD:
            from ..aai import soundworld

            pictures, scores = soundworld.references(embedding.f_a, sound_encoder, k)
            names = [f"{SOUNDWORLD} {i + 1}" for i in range(len(scores))]
        else:
            from ..aai.adapt.library import load_pictures, references

            found = references(embedding.f_a, _index(_folder(library), sound_encoder), k)
            pictures = load_pictures([r.path for r in found], SIDE)
            scores = [r.score for r in found]
            names = [r.path.relative_to(_folder(library)).as_posix() for r in found]
        lines = [f"{name} {score:.3f}" for name, score in zip(names, scores)]
        images = pictures.movedim(1, -1).contiguous()
        shown = [
            {**file, "name": name, "score": float(score)}
            for file, name, score in zip(previews(images), names, scores)
        ]
        return io.NodeOutput(images, "\n".join(lines), ui={"references": shown})


class TrainSoundToken(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_TrainSoundToken",
            display_name="Train Sound Token",
            category=CATEGORY,
            description=(
                "Makes a sound one word of this model: e = f_a + f_adapter, trained on a few pictures. "
                "When cancelled, the token so far is saved among the embeddings."
            ),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A Stable Diffusion 1, 2 or XL model, or SoundWorld's. It is not changed.",
                ),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.Vae.Input("vae", tooltip="The model's autoencoder."),
                SoundEmbeddingType.Input("embedding", tooltip="The sound, from Encode Sound."),
                io.Image.Input(
                    "images", tooltip="3 to 5 pictures of what is heard; the middle square of each is used."
                ),
                io.String.Input(
                    "name", default="sound", tooltip="The token's name; prompts may call it <name> or *."
                ),
                io.Int.Input(
                    "steps",
                    default=120,
                    min=1,
                    max=10000,
                    tooltip="Training steps; 500 to 1000 for a large model.",
                ),
                io.Float.Input(
                    "rate",
                    default=0.005,
                    min=0.000001,
                    max=1.0,
                    step=0.0001,
                    round=0.000001,
                    tooltip="Adam's learning rate.",
                ),
                io.Int.Input(
                    "batch", default=4, min=1, max=64, tooltip="Pictures in a step; less memory with fewer."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed and inputs give the same token.",
                ),
                io.Combo.Input(
                    "scale",
                    options=["vocabulary", "raw"],
                    default="vocabulary",
                    tooltip="vocabulary: f_a gets the size of the model's own words. raw: it stays as it is.",
                ),
                io.Float.Input(
                    "rho",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="How long f_adapter may become, as a share of the sound's part; 0 sets no limit.",
                ),
                io.Int.Input(
                    "vectors",
                    default=1,
                    min=1,
                    max=16,
                    tooltip="How many words' places the token takes in a prompt.",
                ),
                io.String.Input(
                    "template", default="a photo of *", tooltip="The training prompt; * is the sound."
                ),
                io.Int.Input(
                    "size",
                    default=0,
                    min=0,
                    max=2048,
                    step=64,
                    tooltip="Side of the training pictures in pixels; 0 takes the model's own.",
                ),
            ],
            outputs=[
                SoundTokenType.Output("token", display_name="token", tooltip="The sound token."),
                io.Image.Output("curve", display_name="curve", tooltip="The loss at each step."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        embedding,
        images,
        name,
        steps,
        rate,
        batch,
        seed,
        scale,
        rho,
        vectors,
        template,
        size,
    ) -> io.NodeOutput:
        from ..aai.adapt.train import TrainSettings, train_token
        from .comfy.picture import ComfyPictureModel
        from .comfy.progress import LossCurve

        settings = TrainSettings(
            steps=steps,
            rate=rate,
            batch=batch,
            seed=seed,
            scale=scale,
            rho=rho or None,
            vectors=vectors,
            template=template,
        )
        picture = ComfyPictureModel(model, clip, vae)

        def keep(stopped) -> None:
            word = save_token(stopped.token, f"{name.strip()}-step{len(stopped.losses)}")
            log.info("Training stopped; the token so far is embedding:%s.", word)

        latents = picture.encode_images(square(images, size or picture.native_size))
        with picture.training() as trainable:
            result = train_token(
                trainable,
                embedding.f_a,
                latents,
                settings,
                name.strip(),
                callback=LossCurve(steps),
                on_stop=keep,
                loudness=embedding.loudness,
                provenance={"sound": embedding.sound, "encoder": embedding.encoder},
            )
        curve = as_image(loss_curve(result.losses, steps))
        return io.NodeOutput(result.token, curve, ui={"curve": [curve_points(result.losses, steps)]})


class RebindSoundToken(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_RebindSoundToken",
            display_name="Rebind Sound Token",
            category=CATEGORY,
            description="The same adapter with another sound (the paper's Fig. 6b): no training.",
            inputs=[
                SoundTokenType.Input("token", tooltip="A token that this pack trained."),
                SoundEmbeddingType.Input("embedding", tooltip="The other sound, heard by the same encoder."),
            ],
            outputs=[
                SoundTokenType.Output(
                    "rebound", display_name="token", tooltip="The token of the other sound."
                )
            ],
        )

    @classmethod
    def execute(cls, token, embedding) -> io.NodeOutput:
        return io.NodeOutput(
            token.with_sound(
                embedding.f_a, embedding.loudness, {"sound": embedding.sound, "encoder": embedding.encoder}
            )
        )


class SaveSoundToken(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_SaveSoundToken",
            display_name="Save Sound Token",
            category=CATEGORY,
            description="Saves a token in models/embeddings. Any prompt can then say embedding:name.",
            inputs=[
                SoundTokenType.Input("token", tooltip="The token to save."),
                io.String.Input(
                    "name",
                    default="",
                    tooltip="The file's name; folders with /. Empty takes the token's name.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Replace a file of this name; otherwise a number is added to it.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "word", display_name="word", tooltip="What to write in a prompt: embedding:name."
                )
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, token, name, overwrite) -> io.NodeOutput:
        word = save_token(token, name.strip() or token.name, overwrite)
        return io.NodeOutput(f"embedding:{word}", ui={"text": [f"embedding:{word}"]})


class LoadSoundToken(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_LoadSoundToken",
            display_name="Load Sound Token",
            category=CATEGORY,
            description="A token from models/embeddings: this pack's, or any textual-inversion embedding.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folder_paths.get_filename_list("embeddings"),
                    tooltip="A file of models/embeddings, as wide as the checkpoint's text encoder.",
                )
            ],
            outputs=[SoundTokenType.Output("token", display_name="token", tooltip="The sound token.")],
        )

    @classmethod
    def fingerprint_inputs(cls, file):
        path = folder_paths.get_full_path("embeddings", file)
        return [file, os.stat(path).st_mtime_ns if path else None]

    @classmethod
    def validate_inputs(cls, file):
        if folder_paths.get_full_path("embeddings", file) is None:
            return f"There is no token '{file}' in models/embeddings: save one there or choose another."
        return True

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        from ..aai import token

        return io.NodeOutput(token.load(folder_paths.get_full_path_or_raise("embeddings", file)))


def save_token(token, name: str, overwrite: bool = False) -> str:
    """Saves into the first embeddings folder; returns what a prompt calls it. Raises InputError."""
    from ..aai.errors import InputError

    folder = Path(folder_paths.get_folder_paths("embeddings")[0]).resolve()
    path = (folder / f"{name.removesuffix('.safetensors')}.safetensors").resolve()
    if not path.is_relative_to(folder) or any(c in name for c in '<>:"|?*\\ \n'):
        raise InputError(
            f"'{name}' cannot name a sound token: use letters, digits, - and _, "
            "and / for a folder within models/embeddings."
        )
    plain, number = path.stem, 2
    while path.exists() and not overwrite:
        path = path.with_name(f"{plain}_{number}.safetensors")
        number += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    token.save(path)
    return path.relative_to(folder).with_suffix("").as_posix()


def _folder(library: str) -> Path:
    return Path(folder_paths.get_input_directory()) / library


def _stamp(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*")) if folder.is_dir() else []


_indexed: list[tuple] = []


def _index(folder: Path, encoder):
    """A folder's library; the last one is kept, since many sounds may ask for it."""
    from ..aai.adapt.library import index
    from .comfy.progress import Bar

    stamp = _stamp(folder)
    if not _indexed or _indexed[0][:2] != (folder, stamp) or _indexed[0][2] is not encoder:
        _indexed[:] = [(folder, stamp, encoder, index(folder, encoder, callback=Bar()))]
    return _indexed[0][3]


def _folders() -> list[str]:
    root = folder_paths.get_input_directory()
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir()) if os.path.isdir(root) else []


NODES = [RetrieveReferenceImages, TrainSoundToken, RebindSoundToken, SaveSoundToken, LoadSoundToken]
