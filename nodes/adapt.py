"""Adapting: a heard sound and some reference pictures become a sound token."""

from __future__ import annotations

import os
from dataclasses import replace

import folder_paths
from comfy_api.latest import io

from ..aai.charts import curve_points, loss_curve
from ..aai.errors import logger, sentence
from . import folders
from .pictures import as_image, square
from .types import CATEGORY, SoundEmbeddingType, SoundTokenType, search_aliases

log = logger(__name__)

SMALLEST = 32
"""Side of a reference picture, in pixels, below which nothing is to be seen in it."""


class TrainSoundToken(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_TrainSoundToken",
            display_name="Train Sound Token",
            category=CATEGORY,
            **search_aliases("textual inversion", "train embedding", "sound to word"),
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
                    tooltip="The same seed and inputs give the same token; on a GPU, up to rounding.",
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
                    "template",
                    default="a photo of *",
                    tooltip="The training prompt; * is the sound. Or 'objects' or 'styles': the prompts of "
                    "textual inversion.",
                ),
                io.Int.Input(
                    "size",
                    default=0,
                    min=0,
                    max=2048,
                    step=64,
                    tooltip="Side of the training pictures in pixels; 0 takes the model's own.",
                ),
                # Optional, so that graphs saved before they were there go on running.
                io.Combo.Input(
                    "norm",
                    optional=True,
                    options=["free", "soft", "pinned"],
                    default="free",
                    tooltip="How the word's length is held to that of the model's own words: a longer one "
                    "shouts down the rest of a prompt.",
                ),
                io.Combo.Input(
                    "timesteps",
                    optional=True,
                    options=["stratified", "antithetic", "uniform"],
                    default="stratified",
                    tooltip="How a step's noise levels are drawn; stratified spreads them evenly.",
                ),
                io.Float.Input(
                    "average",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=0.9999,
                    step=0.01,
                    round=0.0001,
                    tooltip="The share that a moving average of the token keeps at each step; 0 takes the "
                    "last step's token.",
                ),
                io.Int.Input(
                    "validate",
                    optional=True,
                    default=0,
                    min=0,
                    max=10000,
                    tooltip="After how many steps the loss on fixed noise is measured; the token is then the "
                    "best one's. 0: never.",
                ),
                io.Int.Input(
                    "patience",
                    optional=True,
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="After how many such measurements without a better one training stops. 0: never.",
                ),
                io.Int.Input(
                    "chunk",
                    optional=True,
                    default=0,
                    min=0,
                    max=64,
                    tooltip="How many pictures of a step pass the model at a time: 1 takes the least memory, "
                    "for the same token. 0: all.",
                ),
                io.Boolean.Input(
                    "checkpointing",
                    optional=True,
                    default=False,
                    tooltip="Much less memory, a third more time.",
                ),
                io.Int.Input(
                    "sample_every",
                    optional=True,
                    default=0,
                    min=0,
                    max=10000,
                    tooltip="After how many steps the node shows a picture that the token draws. 0: never.",
                ),
                io.String.Input(
                    "licence",
                    optional=True,
                    default="",
                    tooltip="What the token's file says of the rights in it; empty: those of the sound, the "
                    "pictures and the model.",
                ),
                SoundTokenType.Input(
                    "resume",
                    optional=True,
                    tooltip="A token of an earlier run (a cancelled one saves itself): training goes on "
                    "where it ended, to `steps` in all.",
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
        norm="free",
        timesteps="stratified",
        average=0.0,
        validate=0,
        patience=0,
        chunk=0,
        checkpointing=False,
        sample_every=0,
        licence="",
        resume=None,
    ) -> io.NodeOutput:
        from ..aai.adapt.settings import TrainSettings
        from ..aai.adapt.train import train_token
        from ..aai.errors import InputError
        from .comfy.picture import ComfyPictureModel
        from .comfy.progress import LossCurve
        from .comfy.training import room

        settings = TrainSettings(
            steps=steps,
            rate=rate,
            batch=batch,
            seed=seed,
            scale=scale,
            rho=rho or None,
            vectors=vectors,
            template=template,
            norm=norm,
            timesteps=timesteps,
            average=average or None,
            validate=validate,
            patience=patience,
            chunk=chunk,
            checkpointing=checkpointing,
        )
        picture = ComfyPictureModel(model, clip, vae)
        progress = LossCurve(steps)
        edge = min(images.shape[1:3])
        if len(images) and edge < SMALLEST:
            raise InputError(
                f"A reference picture of {images.shape[2]} x {images.shape[1]} pixels shows too little: take "
                f"{SMALLEST} or more a side."
            )

        def keep(stopped) -> None:
            word = save_token(stopped.token, f"{file_name(name)}-step{stopped.token.provenance['steps']}")
            log.info("Training stopped; the token so far is embedding:%s.", word)

        latents = picture.encode_images(square(images, size or picture.native_size))
        with picture.training(room(latents, chunk or batch)) as trainable:
            result = train_token(
                trainable,
                embedding.f_a,
                latents,
                settings,
                name.strip(),
                callback=progress,
                on_stop=keep,
                watch=lambda so_far: progress.show(sample(trainable, so_far.token, latents, seed)),
                watch_every=sample_every,
                resume=resume,
                table=(embedding.labels, embedding.label_vectors),
                loudness=embedding.loudness,
                provenance={**origin(embedding), **({"licence": licence.strip()} if licence.strip() else {})},
            )
        curve = as_image(loss_curve(result.losses, steps, progress.begun))
        shown = {"curve": [curve_points(result.losses, steps, progress.begun)]}
        if result.note:
            shown["text"] = [result.note]
        return io.NodeOutput(result.token, curve, ui=shown)


class RebindSoundToken(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_RebindSoundToken",
            display_name="Rebind Sound Token",
            category=CATEGORY,
            **search_aliases("swap sound", "exchange sound"),
            description="The same adapter with another sound (the paper's Fig. 6b): no training.",
            inputs=[
                SoundTokenType.Input("token", tooltip="A token that this pack trained."),
                SoundEmbeddingType.Input("embedding", tooltip="The other sound, heard by the same encoder."),
                new_name(),
            ],
            outputs=[
                SoundTokenType.Output(
                    "rebound", display_name="token", tooltip="The token of the other sound."
                )
            ],
        )

    @classmethod
    def execute(cls, token, embedding, name="") -> io.NodeOutput:
        rebound = token.with_sound(embedding.f_a, embedding.loudness, origin(embedding))
        return io.NodeOutput(renamed(rebound, name))


class SaveSoundToken(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_SaveSoundToken",
            display_name="Save Sound Token",
            category=CATEGORY,
            **search_aliases("save embedding", "textual inversion"),
            description="Saves a token in models/embeddings. Any prompt can then say embedding:name.",
            inputs=[
                SoundTokenType.Input("token", tooltip="The token to save."),
                io.String.Input(
                    "name",
                    default="",
                    tooltip="The file's name; folders with /. Empty, or a folder's name with / at its end, "
                    "takes the token's name.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Replace a sound token of this name; otherwise a number is added to it.",
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
    def fingerprint_inputs(cls, overwrite=False, **others):
        return folders.saving_stamp(overwrite)

    @classmethod
    def execute(cls, token, name, overwrite) -> io.NodeOutput:
        folder, slash, file = name.strip().rpartition("/")
        word = save_token(token, folder + slash + (file or file_name(token.name)), overwrite)
        return io.NodeOutput(f"embedding:{word}", ui={"text": [f"embedding:{word}"]})


class LoadSoundToken(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_LoadSoundToken",
            display_name="Load Sound Token",
            category=CATEGORY,
            **search_aliases("load embedding", "textual inversion"),
            description="A token from models/embeddings: this pack's, or any textual-inversion embedding.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folder_paths.get_filename_list("embeddings"),
                    tooltip="A file of models/embeddings, as wide as the checkpoint's text encoder.",
                ),
                new_name(),
            ],
            outputs=[
                SoundTokenType.Output("token", display_name="token", tooltip="The sound token."),
                io.String.Output(
                    "provenance",
                    display_name="provenance",
                    tooltip="Where the token comes from: its sound, encoder, model, training, loudness, "
                    "licence.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file, name=""):
        path = file and token_file(file)
        return [file, os.stat(path).st_mtime_ns if path else None, name]

    @classmethod
    def validate_inputs(cls, file):
        # A link's value is None before it ran.
        return True if file is None or token_file(file) else no_token(file)

    @classmethod
    def execute(cls, file, name="") -> io.NodeOutput:
        from ..aai import token
        from ..aai.errors import InputError

        path = token_file(file)
        if path is None:
            raise InputError(no_token(file))
        loaded = renamed(token.load(path), name)
        return io.NodeOutput(loaded, loaded.describe())


def token_file(name: str) -> str | None:
    """The path of a file of models/embeddings; None where there is none."""
    return folder_paths.get_full_path("embeddings", name) if folders.is_inside(name) else None


def no_token(name: str) -> str:
    return sentence(f"There is no token '{name}' in models/embeddings: save one there or choose another.")


def new_name():
    """The input for a token's new name."""
    return io.String.Input(
        "name",
        optional=True,
        default="",
        tooltip="The token's new name, where a prompt has two of the same; empty keeps the old one.",
    )


def renamed(token, name: str):
    """A token under another name; without one, as it is. Raises InputError for a name that can be none."""
    return replace(token, name=name.strip() or token.name)


def origin(embedding) -> dict[str, str]:
    """What a token says of its sound."""
    found = {"sound": embedding.sound, "sound_hash": embedding.hash, "encoder": embedding.encoder}
    return {k: v for k, v in found.items() if v}


def sample(picture, token, latents, seed: int):
    """A picture [3, H, W] that the token so far draws, as large as the training's."""
    from ..aai.picture.preview import preview
    from ..aai.prompt import Prompt

    cond = picture.encode_prompt(Prompt("a photo of *", (token,)))
    drawn = preview(picture, cond, picture.encode_prompt(Prompt("")), latents, seed=seed % 2**63)
    return picture.decode(drawn)[0]


def file_name(name: str) -> str:
    """A token's name as a file's: a prompt reads embedding:name up to the first space."""
    return name.strip().replace(" ", "_")


def save_token(token, name: str, overwrite: bool = False) -> str:
    """Saves into the first embeddings folder; returns what a prompt calls it. Raises InputError."""
    from ..aai.token import is_ours

    path = folders.place_of("embeddings", name, "a sound token", overwrite, is_ours, forbidden=" ()[]")
    token.save(path)
    return path.relative_to(folders.root_of("embeddings")).with_suffix("").as_posix()


NODES = [TrainSoundToken, RebindSoundToken, SaveSoundToken, LoadSoundToken]
