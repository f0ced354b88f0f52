"""Widgets that nodes which train share."""

from __future__ import annotations

from comfy_api.latest import io


def rate_input(default: float):
    return io.Float.Input(
        "rate",
        default=default,
        min=0.000001,
        max=1.0,
        step=0.000001,
        tooltip="Adam's learning rate.",
    )


def rho_input():
    return io.Float.Input(
        "rho",
        default=1.0,
        min=0.0,
        max=100.0,
        step=0.05,
        tooltip="How long f_adapter may become, as a share of the sound's part; 0 sets no limit.",
    )


def vectors_input():
    return io.Int.Input(
        "vectors",
        default=1,
        min=1,
        max=16,
        tooltip="How many words' places a token takes in a prompt.",
    )


def template_input():
    return io.String.Input(
        "template",
        default="a photo of *",
        tooltip="The training prompt; * is the sound. Or 'objects' or 'styles': the prompts of textual "
        "inversion.",
    )


def size_input():
    return io.Int.Input(
        "size",
        default=0,
        min=0,
        max=2048,
        step=64,
        tooltip="Side of the training pictures in pixels; 0 takes the model's own.",
    )


def checkpointing_input(optional: bool):
    return io.Boolean.Input(
        "checkpointing",
        optional=optional,
        default=False,
        tooltip="Much less memory, a third more time. Large models need it on most cards.",
    )


def seed_input(made: str):
    """The seed of a node that trains what is `made`."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip=f"The same seed and inputs give the same {made}; on a GPU, up to rounding.",
    )
