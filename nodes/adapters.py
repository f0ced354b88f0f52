"""Instant words: an adapter that makes any sound a word of a picture model at once, and its training."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import io

from ..aai.errors import InputError, logger, sentence
from . import datasets, folders, tokens
from .adapt import draw_sample
from .pictures import draw_curve
from .training_inputs import (
    checkpointing_input,
    rate_input,
    rho_input,
    seed_input,
    size_input,
    template_input,
    vectors_input,
)
from .types import (
    CATEGORY,
    SOUNDWORLD,
    Node,
    SoundAdapterType,
    SoundEmbeddingType,
    SoundEncoderType,
    SoundTokenType,
    fold,
    search_aliases,
)

log = logger(__name__)

WHAT = "a sound adapter"


class TrainSoundAdapter(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="AAI_TrainSoundAdapter",
            display_name="Train Sound Adapter",
            category=CATEGORY,
            **search_aliases("instant token", "universal adapter", "hypernetwork"),
            description=(
                "Trains one adapter on a folder of sounds and pictures, by which this model draws any sound "
                "at once: a new sound then needs no training. It is saved in models/sound_adapters, also "
                "when cancelled. For large sets there is the command aai adapt train."
            ),
            inputs=[
                SoundEncoderType.Input(
                    "sound_encoder", tooltip="Hears the sounds; it belongs to the adapter."
                ),
                io.Model.Input(
                    "model", tooltip="The picture or video model that is to draw them. It is not changed."
                ),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.Vae.Input("vae", tooltip="The model's autoencoder."),
                io.Combo.Input(
                    "dataset",
                    options=datasets.choices(),
                    default=SOUNDWORLD,
                    tooltip="A folder inside the input folder: a subfolder for each label, with its sounds "
                    "and pictures in it; without any pictures, the labels teach. SoundWorld: 120 examples "
                    "that are made on the spot.",
                ),
                io.String.Input("name", default="adapter", tooltip="The adapter's file in sound_adapters."),
                io.Int.Input(
                    "steps",
                    default=300,
                    min=1,
                    max=1000000,
                    tooltip="Training steps; thousands for a large model and many kinds of sound.",
                ),
                rate_input(default=0.001),
                seed_input("adapter"),
                io.Int.Input(
                    "batch", default=8, min=1, max=256, tooltip="Sounds in a step, each with one picture."
                ),
                rho_input(),
                vectors_input(),
                template_input(),
                size_input(),
                io.Int.Input(
                    "chunk",
                    default=0,
                    min=0,
                    max=256,
                    tooltip="How many sounds of a step pass the model at a time: 1 takes the least memory. "
                    "0: all.",
                ),
                checkpointing_input(optional=False),
                io.Int.Input(
                    "sample_every",
                    default=0,
                    min=0,
                    max=10000,
                    tooltip="After how many steps the node shows what the model draws of one of the sounds. "
                    "0: never.",
                ),
                io.String.Input(
                    "licence", default="", tooltip="What the adapter's file says of the rights in it."
                ),
                SoundAdapterType.Input(
                    "resume",
                    optional=True,
                    tooltip="An adapter of an earlier run (a cancelled one saves itself): training goes on "
                    "where it ended, to `steps` in all.",
                ),
            ],
            outputs=[
                SoundAdapterType.Output("adapter", display_name="adapter", tooltip="The trained adapter."),
                io.Image.Output("curve", display_name="curve", tooltip="The loss at each step."),
            ],
            is_output_node=True,
        )
        return fold(schema, in_sight=["dataset", "name", "steps", "rate", "seed"])

    @classmethod
    def validate_inputs(cls, dataset):
        return datasets.check(dataset)

    @classmethod
    def fingerprint_inputs(cls, dataset, **others):
        return datasets.fingerprint(dataset, others)

    @classmethod
    def execute(
        cls,
        sound_encoder,
        model,
        clip,
        vae,
        dataset,
        name,
        size,
        sample_every,
        licence,
        resume=None,
        **widgets,
    ) -> io.NodeOutput:
        from ..aai.adapt.examples import from_clips
        from ..aai.adapt.universal_train import AdapterRun, train_adapter
        from ..aai.data.clips import scan, train_split
        from .comfy.picture import ComfyPictureModel
        from .comfy.progress import Bar, LossCurve
        from .comfy.training import check_trainable, room

        # Before the training: what cannot be saved would lose what it has come to.
        folders.make(folders.path_of(folders.ADAPTERS, name.strip(), WHAT).parent)
        settings = adapter_settings(**widgets)
        # Before the examples are encoded, which may take hours.
        check_trainable(model, clip)
        picture = ComfyPictureModel(model, clip, vae)
        examples = from_clips(
            train_split(scan(datasets.place_of(dataset), pictures=False)), sound_encoder, picture, settings,
            size or None, name=dataset, callback=Bar(), resume=resume,
        )  # fmt: skip
        latents = sample_latent(picture, examples, size)
        heard, progress = list(examples.f_a.values()), LossCurve(settings.steps)

        def keep(stopped) -> None:
            file = save(stopped, f"{name.strip()}-step{stopped.steps}")
            log.info("Training stopped; the adapter so far is models/sound_adapters/%s.", file)

        with picture.training(room(latents, settings.chunk or settings.batch)) as trainable:

            def watch(so_far) -> None:
                sound = heard[so_far.steps // sample_every % len(heard)]
                progress.show(draw_sample(trainable, so_far.token(sound), latents, settings.seed))

            adapter = train_adapter(
                AdapterRun(trainable, examples, settings), name.strip(), callback=progress, on_stop=keep,
                watch=watch, watch_every=sample_every, resume=resume,
                provenance={"licence": licence.strip()} if licence.strip() else {},
            )  # fmt: skip
        try:
            told = f"models/sound_adapters/{save(adapter, name.strip())}"
        except InputError as error:
            # The output still has what was trained.
            told = str(error)
            log.warning("%s", told)
        begun = resume.steps if resume else 0
        curve, shown = draw_curve(adapter.losses[begun:], settings.steps, begun)
        return io.NodeOutput(adapter, curve, ui={"text": [told], **shown})


class LoadSoundAdapter(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_LoadSoundAdapter",
            display_name="Load Sound Adapter",
            category=CATEGORY,
            **search_aliases("instant token", "universal adapter"),
            description="An adapter from models/sound_adapters, for instant words of its picture model.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folder_paths.get_filename_list(folders.ADAPTERS),
                    tooltip="A file of models/sound_adapters: Train Sound Adapter's or aai adapt train's.",
                )
            ],
            outputs=[
                SoundAdapterType.Output("adapter", display_name="adapter", tooltip="The sound adapter."),
                io.String.Output(
                    "provenance",
                    display_name="provenance",
                    tooltip="Where the adapter comes from: its picture model, sound encoder, data, steps, "
                    "licence.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file):
        path = file and find(file)
        return [file, os.stat(path).st_mtime_ns if path else None]

    @classmethod
    def validate_inputs(cls, file):
        # A link's value is None before it ran.
        return True if file is None or find(file) else missing(file)

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        from ..aai.adapt.universal_file import load

        path = find(file)
        if path is None:
            raise InputError(missing(file))
        adapter = load(path)
        return io.NodeOutput(adapter, adapter.describe())


class InstantSoundToken(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_InstantSoundToken",
            display_name="Instant Sound Token",
            category=CATEGORY,
            **search_aliases("sound to word", "sound to image", "zero-shot"),
            description=(
                "Makes a sound one word of this model at once, without training, by an adapter for every "
                "sound. SoundWorld brings its own; for another model, train one with Train Sound Adapter. "
                "Train Sound Token can start from the word."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model that is to draw the sound."),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                SoundEmbeddingType.Input("embedding", tooltip="The sound, from Encode Sound."),
                io.String.Input(
                    "name",
                    default="sound",
                    tooltip="The token's name; prompts may call it <name> or *. Empty takes the sound's.",
                ),
                SoundAdapterType.Input(
                    "adapter",
                    optional=True,
                    tooltip="From Load Sound Adapter or Train Sound Adapter; SoundWorld's models need none.",
                ),
            ],
            outputs=[
                SoundTokenType.Output("token", display_name="token", tooltip="The sound token, as any other.")
            ],
        )

    @classmethod
    def execute(cls, model, clip, embedding, name, adapter=None) -> io.NodeOutput:
        from ..aai.adapt.universal import unknown
        from ..aai.soundworld.loaders import load_adapter
        from .comfy.picture import ComfyPictureModel

        picture = ComfyPictureModel(model, clip, None)
        adapter = adapter or load_adapter(picture)
        adapter.check(embedding, picture)
        token = adapter.token(
            embedding.f_a,
            tokens.token_name(name, embedding),
            embedding.loudness,
            tokens.provenance_of(embedding),
        )
        note = unknown(embedding)
        if note:
            log.warning("%s", note)
        return io.NodeOutput(token, ui={"text": [note] if note else []})


def adapter_settings(rho: float, **settings):
    """AdapterSettings of the widgets, where 0 is no bound on f_adapter."""
    from ..aai.adapt.universal_settings import AdapterSettings

    return AdapterSettings(rho=rho or None, **settings)


def sample_latent(picture, examples, size: int):
    """A latent [1, ...] of the training's size, which a sample takes."""
    import torch

    for latent in examples.latents.values():
        return latent[None]
    side = size or picture.native_size
    return picture.encode_images(torch.zeros(1, 3, side, side))


def find(name: str) -> str | None:
    """The path of a file of models/sound_adapters; None where there is none."""
    return folders.file_of(folders.ADAPTERS, name)


def missing(name: str) -> str:
    return sentence(
        f"There is no sound adapter '{name}' in models/sound_adapters: put it there, or choose another."
    )


def save(adapter, name: str) -> str:
    """Saves with the training's state into the first sound_adapters folder; returns what Load Sound Adapter
    calls it. Raises InputError."""
    from ..aai.adapt import universal_file

    path = folders.place_of(folders.ADAPTERS, name, WHAT, False, universal_file.is_ours)
    universal_file.save(adapter, path, training=True)
    return path.relative_to(folders.root_of(folders.ADAPTERS)).as_posix()


NODES = [TrainSoundAdapter, LoadSoundAdapter, InstantSoundToken]
