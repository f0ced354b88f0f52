"""Injecting: sound tokens in prompts."""

from __future__ import annotations

from comfy_api.latest import io

from .types import CATEGORY, SoundTokenType


class SoundTokenConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_SoundTokenConditioning",
            display_name="Sound Token Conditioning",
            category=CATEGORY,
            description="A prompt with sound tokens in it: * or <name> stands for the sound.",
            inputs=[
                io.Clip.Input(
                    "clip", tooltip="The text encoder of the model that the token was trained with."
                ),
                SoundTokenType.Input("token", tooltip="The sound that * stands for."),
                io.String.Input(
                    "prompt",
                    default="a photo of *",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="* is the first token; <name> is the token of that name. Weights (words:1.2) and "
                    "embedding:name work as in CLIP Text Encode.",
                ),
                SoundTokenType.Input("token_2", optional=True, tooltip="A second sound; call it <name>."),
                SoundTokenType.Input("token_3", optional=True, tooltip="A third sound; call it <name>."),
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning",
                    display_name="conditioning",
                    tooltip="For KSampler; knows where the tokens stand.",
                )
            ],
        )

    @classmethod
    def execute(cls, clip, token, prompt, token_2=None, token_3=None) -> io.NodeOutput:
        from ..aai.prompt import Prompt
        from .comfy.words import READS, tokenize

        tokens = tuple(t for t in (token, token_2, token_3) if t is not None)
        pairs, reads = tokenize(clip, Prompt(prompt, tokens))
        return io.NodeOutput(clip.encode_from_tokens_scheduled(pairs, add_dict={READS: (reads,)}))


NODES = [SoundTokenConditioning]
