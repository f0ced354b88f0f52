"""Adapting: a sound and a few reference pictures become a sound token (eq. 6)."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai.adapt.settings import NORMS
from ..aai.errors import logger
from . import tokens
from .pictures import draw_curve, square
from .training_inputs import (
    checkpointing_input,
    rate_input,
    rho_input,
    seed_input,
    size_input,
    template_input,
    vectors_input,
)
from .types import CATEGORY, Node, SoundEmbeddingType, SoundTokenType, fold, search_aliases

log = logger(__name__)


class TrainSoundToken(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
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
                    tooltip="A picture or video model: Stable Diffusion, Z-Image, Qwen-Image, Flux, Chroma, "
                    "SD3.5, Wan, LTX and others; or SoundWorld's. It is not changed.",
                ),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.Vae.Input("vae", tooltip="The model's autoencoder."),
                SoundEmbeddingType.Input("embedding", tooltip="The sound, from Encode Sound."),
                io.Image.Input(
                    "images", tooltip="3 to 5 pictures of what is heard; the middle square of each is used."
                ),
                io.String.Input(
                    "name",
                    default="sound",
                    tooltip="The token's name; prompts may call it <name> or *. Empty takes the sound's.",
                ),
                io.Int.Input(
                    "steps",
                    default=120,
                    min=1,
                    max=10000,
                    tooltip="Training steps; 500 to 1000 for a large model.",
                ),
                rate_input(default=0.005),
                io.Int.Input(
                    "batch", default=4, min=1, max=64, tooltip="Pictures in a step; less memory with fewer."
                ),
                seed_input("token"),
                io.Combo.Input(
                    "scale",
                    options=["vocabulary", "raw"],
                    default="vocabulary",
                    tooltip="vocabulary: f_a gets the size of the model's own words. raw: it stays as it is.",
                ),
                rho_input(),
                vectors_input(),
                template_input(),
                size_input(),
                # Optional, so that graphs saved before they were there go on running.
                io.Combo.Input(
                    "norm",
                    optional=True,
                    options=list(NORMS),
                    default="free",
                    tooltip="How the word's length is held to that of the model's own words: a longer one "
                    "shouts down the rest of a prompt. direction trains the word's direction alone.",
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
                    step=0.0001,
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
                checkpointing_input(optional=True),
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
                    "where it ended, to `steps` in all. Or an instant token: training starts from it.",
                ),
            ],
            outputs=[
                SoundTokenType.Output("token", display_name="token", tooltip="The sound token."),
                io.Image.Output("curve", display_name="curve", tooltip="The loss at each step."),
            ],
            is_output_node=True,
        )
        return fold(schema, in_sight=["name", "steps", "rate", "seed"])

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        embedding,
        images,
        name,
        size,
        sample_every=0,
        licence="",
        resume=None,
        **widgets,
    ) -> io.NodeOutput:
        from ..aai.adapt.train import train_token
        from .comfy.picture import ComfyPictureModel
        from .comfy.progress import LossCurve
        from .comfy.training import room

        settings, name = train_settings(**widgets), tokens.token_name(name, embedding)
        picture = ComfyPictureModel(model, clip, vae)
        progress = LossCurve(settings.steps)
        latents = picture.encode_images(square(images, size or picture.native_size))

        def keep(stopped) -> None:
            steps = stopped.token.provenance["steps"]
            word = tokens.save(stopped.token, f"{tokens.file_name(name)}-step{steps}")
            log.info("Training stopped; the token so far is embedding:%s.", word)

        with picture.training(room(latents, settings.chunk or settings.batch)) as trainable:
            result = train_token(
                trainable,
                embedding.f_a,
                latents,
                settings,
                name,
                encoded=True,
                callback=progress,
                on_stop=keep,
                watch=lambda so_far: progress.show(
                    draw_sample(trainable, so_far.token, latents, settings.seed)
                ),
                watch_every=sample_every,
                resume=resume,
                table=(embedding.labels, embedding.label_vectors),
                loudness=embedding.loudness,
                provenance=tokens.provenance_of(embedding, licence.strip()),
            )
        curve, shown = draw_curve(result.losses, settings.steps, progress.begun)
        # Core joins what the items of a list show by the keys of the first.
        shown["text"] = [result.note] if result.note else []
        return io.NodeOutput(result.token, curve, ui=shown)


def train_settings(rho: float, average: float = 0.0, **settings):
    """TrainSettings of the widgets, where 0 is no bound on f_adapter and no average of the steps."""
    from ..aai.adapt.settings import TrainSettings

    return TrainSettings(rho=rho or None, average=average or None, **settings)


def draw_sample(picture, token, latents, seed: int):
    """A picture [3, H, W] that the token so far draws, as large as the training's."""
    from ..aai.picture.preview import preview
    from ..aai.prompt import Prompt

    cond = picture.encode_prompt(Prompt("a photo of *", (token,)))
    uncond, seed = picture.encode_prompt(Prompt("")), seed % 2**63
    drawn = preview(picture, cond, uncond, latents, seed=seed, guidance=picture.guidance)
    return picture.decode(drawn)[0]


NODES = [TrainSoundToken]
