"""Flow transformers from the parts of their diffusers folders: which text encoders they read, and how."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import InputError
from .flow import FlowPictureModel
from .schedule import flow_of
from .text_encoder import TextEncoder
from .velocity import velocity_of
from .word_encoder import WordEncoder

CHAT = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
"""What stands before and after a prompt of Z-Image: Qwen3's chat template, as it was trained."""
TURBO_SHIFT = 3.0
"""Of Z-Image Turbo's scheduler; the model that it was distilled from, which needs guidance, has another."""
T5_PLACES = 256
"""Of a prompt of Flux.1, at least: the padding is read like words, so that another number is another picture.
ComfyUI's number."""


def flow_model(parts: Mapping[str, object]) -> FlowPictureModel:
    """A picture model of the parts of diffusers' FluxPipeline or ZImagePipeline, by their names there.

    Raises InputError for parts that do not belong together, or are missing.
    """
    velocity = velocity_of(parts["transformer"])
    flow = flow_of(parts["scheduler"].config)
    if type(velocity.module).__name__ == "ZImageTransformer2DModel":
        _check_vocabulary(parts, "tokenizer", "text_encoder", "<|im_start|>", "<|im_end|>")
        # The last layer's output but one, as in diffusers' pipeline; without a final norm.
        reader = WordEncoder(parts["tokenizer"], parts["text_encoder"], frame=CHAT, layer=-2)
        guidance = 1.0 if flow.shift == TURBO_SHIFT else 4.0
        return FlowPictureModel(
            velocity, {"qwen3_4b": reader}, parts["vae"], flow, "ZImage", guidance=guidance
        )
    _check_vocabulary(parts, "tokenizer", "text_encoder", "<|endoftext|>")
    _check_vocabulary(parts, "tokenizer_2", "text_encoder_2", "</s>")
    encoders = {
        "clip_l": TextEncoder(parts["tokenizer"], parts["text_encoder"]),
        "t5xxl": WordEncoder(parts["tokenizer_2"], parts["text_encoder_2"], least=T5_PLACES),
    }
    family = "Flux" if velocity.module.config.guidance_embeds else "FluxSchnell"
    return FlowPictureModel(velocity, encoders, parts["vae"], flow, family, guidance=1.0)


def _check_vocabulary(parts: Mapping[str, object], tokenizer: str, encoder: str, *marks: str) -> None:
    """Raises InputError where a tokenizer lacks its own special words or is not its text encoder's: without
    its vocabulary's file transformers makes an empty one, and every prompt would read alike."""
    known = parts[tokenizer].get_vocab()
    rows = parts[encoder].get_input_embeddings().num_embeddings
    missing = next((mark for mark in marks if mark not in known), None)
    letter = parts[tokenizer]("a", add_special_tokens=False)["input_ids"]
    if missing is None and (not letter or parts[tokenizer].unk_token_id in letter):
        missing = "the letter a"
    if missing is not None or max(known.values()) >= rows:
        what = f"does not know {missing}" if missing else f"has more words than the {encoder}"
        raise InputError(f"The {tokenizer} of this model {what}: download its folder again.")
