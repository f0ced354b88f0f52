"""Seconds a step of a token's training on a transformer against core's own training of a LoRA (Train LoRA),
at equal number type and checkpointing: Z-Image's shape, narrow and cut in depth, random weights, a picture of
256 pixels. The batch is 1: of more, core's draws each picture under each picture's text. What either makes
ready is left out, as the difference of two lengths. The text encoder's share, which the training of a LoRA
has not, is taken from ours and given beside it: the encoder is tiny here, and elsewhere its share depends on
the encoder.
"""

from __future__ import annotations

import contextlib
import sys

import torch

from bench import tiny_models
from bench.families import LABELS, load_pack

SHAPE = dict(dim=512, n_heads=4, n_kv_heads=4, n_layers=6)
LATENT, BATCH = (16, 32, 32), 1
SHORT, LONG = 2, 8
"""Steps of the two lengths."""


def rows(measure) -> list[dict]:
    with contextlib.redirect_stdout(sys.stderr):
        return _rows(measure, load_pack())


def _rows(measure, part) -> list[dict]:
    clip = tiny_models.build(tiny_models.FAMILIES["Z-Image"]).clip
    with torch.inference_mode():
        model = transformer()
    latents = torch.randn(BATCH, *LATENT, generator=torch.Generator().manual_seed(0))
    found = []
    for checkpointing in (False, True):
        jobs = {}
        for steps in (SHORT, LONG):
            jobs[f"ours {steps}"] = lambda n=steps, c=checkpointing: ours(part, model, clip, latents, n, c)
            jobs[f"core {steps}"] = lambda n=steps, c=checkpointing: cores(model, clip, latents, n, c)
            jobs[f"text {steps}"] = lambda n=steps: text(part, model, clip, n)
        took = measure(jobs)
        each = {who: (took[f"{who} {LONG}"] - took[f"{who} {SHORT}"]) / (LONG - SHORT) for who in WHO}
        suffix = ", checkpointing" if checkpointing else ""
        found += [
            {"what": f"core's LoRA, a step{suffix}", "value": each["core"], "unit": "s", "ratio": 1.0},
            _row(f"ours, a step without text{suffix}", each["ours"] - each["text"], each["core"]),
            _row(f"ours, its text{suffix}", each["text"], each["core"]),
        ]
    return found


WHO = ("ours", "core", "text")


def transformer(disable_dynamic: bool = False):
    """The MODEL, which core makes anew for its training."""
    import comfy.supported_models

    settings = {**tiny_models.settings_of(tiny_models.FAMILIES["Z-Image"]), **SHAPE}
    model = tiny_models.build_model(comfy.supported_models.ZImage(settings))
    model.cached_patcher_init = (transformer, ())
    return model


def _row(what: str, seconds: float, other: float) -> dict:
    return {"what": what, "value": seconds, "unit": "s", "ratio": seconds / other}


def ours(part, model, clip, latents: torch.Tensor, steps: int, checkpointing: bool) -> None:
    picture = part("nodes.comfy.picture").ComfyPictureModel(model, clip, None)
    settings = part("aai.adapt.settings").TrainSettings(steps=steps, batch=BATCH, checkpointing=checkpointing)
    table = torch.nn.functional.normalize(torch.randn(len(LABELS), 48), dim=-1)
    with torch.inference_mode(), picture.training() as trainable:
        part("aai.adapt.train").train_token(
            trainable, table[1], latents, settings, "rain", encoded=True, table=(LABELS, table)
        )


def text(part, model, clip, steps: int) -> None:
    """What of a step's time is its text: read without a graph, and again with one."""
    picture = part("nodes.comfy.picture").ComfyPictureModel(model, clip, None)
    vectors = {key: torch.randn(1, info.dim) for key, info in picture.text_encoders.items()}
    token = part("aai.token").SoundToken("rain", vectors)
    prompt = part("aai.prompt").Prompt("a photo of *", (token,))
    with torch.inference_mode(), picture.training() as trainable:
        for _ in range(steps):
            given = {key: value.clone().requires_grad_() for key, value in vectors.items()}
            with torch.no_grad():
                trainable.encode_prompt(prompt, {"rain": given})
            cond = trainable.encode_prompt(prompt, {"rain": given})
            read = [cond.cross, *([] if cond.pooled is None else [cond.pooled])]
            torch.autograd.grad([t.square().mean() for t in read], list(given.values()))


def cores(model, clip, latents: torch.Tensor, steps: int, checkpointing: bool) -> None:
    from comfy_extras.nodes_train import TrainLoraNode

    with torch.inference_mode():
        cond = clip.encode_from_tokens_scheduled(clip.tokenize("a photo of rain"))
    given = dict(
        batch_size=BATCH, steps=steps, grad_accumulation_steps=1, learning_rate=5e-4, rank=8,
        optimizer="AdamW", loss_function="MSE", seed=0, training_dtype="fp32", lora_dtype="fp32",
        quantized_backward=False, algorithm="LoRA", gradient_checkpointing=checkpointing, checkpoint_depth=1,
        offloading=False, existing_lora="[None]", bucket_mode=False, bypass_mode=False,
    )  # fmt: skip
    TrainLoraNode.execute(
        model=[model], latents=[{"samples": latents}], positive=[cond], **{k: [v] for k, v in given.items()}
    )
