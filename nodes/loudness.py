"""Loudness: how much of a sound, or of a word, the picture shows (eq. 8)."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai.errors import InputError
from .sound import sound_of
from .types import CATEGORY, Node, SoundAdapterType, SoundTimelineType, search_aliases


class LoudnessReweight(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_LoudnessReweight",
            display_name="Loudness Reweight",
            category=CATEGORY,
            **search_aliases("attention reweighting", "volume", "strength of a sound"),
            description=(
                "Sets how much of a sound the picture shows, by how loud a sound is or by a number. Stands "
                "after Sound Token Conditioning, or after Prompt To Prompt Edit."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model, or Prompt To Prompt Edit's."),
                io.Conditioning.Input(
                    "conditioning", tooltip="The prompt with the tokens, from either of those nodes."
                ),
                io.String.Input(
                    "tokens",
                    default="",
                    tooltip="The tokens' names, or any words of the prompt, with commas between: 'heavy, "
                    "rain'. Empty means all tokens.",
                ),
                io.String.Input(
                    "scale",
                    default="",
                    tooltip="0 to 2, or one for each picture of the batch: '0, 0.5, 1'. Empty: by the "
                    "loudness of the audio.",
                ),
                io.Float.Input(
                    "reference",
                    default=-23.0,
                    min=-70.0,
                    max=0.0,
                    step=0.5,
                    tooltip="The loudness in LUFS that counts as 1. 10 LUFS more count twice.",
                ),
                io.Audio.Input("audio", optional=True, tooltip="The sound whose loudness counts."),
                SoundTimelineType.Input(
                    "timeline",
                    optional=True,
                    tooltip="Sound Timeline's: each picture of a batch, or each latent frame of a video, has "
                    "its own scale.",
                ),
                SoundAdapterType.Input(
                    "adapter",
                    optional=True,
                    tooltip="Only with a timeline on a video model: * is the sound of each moment.",
                ),
            ],
            outputs=[
                io.Model.Output("loud_model", display_name="model", tooltip="For KSampler."),
                io.Float.Output(
                    "first_scale", display_name="scale", tooltip="The scale, of the first picture."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model, conditioning, tokens, scale, reference, audio=None, timeline=None, adapter=None
    ) -> io.NodeOutput:
        from ..aai.audio import loudness as lufs
        from ..aai.inject.loudness import read_scales, scale_of
        from .comfy import film as films
        from .comfy import patch

        names = [name.strip(" <>") for name in tokens.split(",") if name.strip(" <>")]
        if timeline is not None:
            if scale.strip() or audio is not None:
                raise InputError(
                    "With a timeline, each frame has its own scale: leave scale empty, take the audio off, "
                    "and set Sound Timeline's gain."
                )
            injection = films.loudness_of(model, conditioning, timeline, names, adapter)
            # Sound Timeline shows its scales; those of a run without one are gone.
            return io.NodeOutput(
                patch.attach(model, injection), float(timeline.scale[0]), ui={"loudness": []}
            )
        if adapter is not None:
            raise InputError(
                "An adapter makes the word of each moment of a timeline: connect Sound Timeline's, or take "
                "the adapter off."
            )
        loudness = None
        if scale.strip():
            scales = read_scales(scale)
        elif audio is not None:
            loudness = lufs(sound_of(audio))
            scales = [scale_of(loudness, reference)]
        else:
            raise InputError(
                "Loudness Reweight has neither a scale nor a sound: type one, or connect an audio."
            )
        injection = patch.with_scales(model, conditioning, scales, names)
        # JSON has no -inf, which is silence.
        finite = None if loudness is None else max(loudness, -99.0)
        shown = {"loudness": finite, "reference": reference, "scales": scales}
        return io.NodeOutput(patch.attach(model, injection), scales[0], ui={"loudness": [shown]})


NODES = [LoudnessReweight]
