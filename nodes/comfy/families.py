"""What families of models do not say of themselves.

All else is read from the loaded objects (`clip.py`, `picture.py`). A family that is in none of these tables
is served by what can be read.
"""

from __future__ import annotations

POOLED = {
    "FluxClipModel": ("clip_l",),
    "HunyuanVideoClipModel": ("clip_l",),
    "Kandinsky5TEModel": ("clip_l",),
    "HiDreamTEModel": ("clip_l", "clip_g"),
}
"""By a text model's class: the encoders of which the picture model sees the pooled text alone."""
CONTEXT = {"HiDreamTEModel": ("t5xxl",), "HyditModel": ("hydit_clip",)}
"""By a text model's class: the encoders whose rows are the conditioning, where others' come beside it."""
LAST_ROW = {"HunyuanVideoClipModel": 128009}
"""By a text model's class: the token id that the conditioning's last row is of, where the prompt is cut off
at both ends."""
UNSEEN = ("byt5_small",)
"""Encoders that read only a part of some prompts (what stands in quotes): no word of ours stands there."""
WORDLESS = {
    "AnimaTEModel": "Anima also reads its prompt as T5's token ids, where no sound can stand as a word",
    "ACE15TEModel": "ACE-Step makes music and draws nothing",
    "AceT5Model": "ACE-Step makes music and draws nothing",
}
"""By a text model's class: why no sound can be a word of it."""
UNTRAINABLE = {"Anima": "Anima", "CosmosPredict2": "Cosmos-Predict2"}
"""By a picture model's class: the names of those whose transformer has no backward pass."""
SIZES = {
    **dict.fromkeys(("WAN21", "LTXV", "LTXAV", "HunyuanVideo", "GenmoMochi", "CosmosVideo"), 512),
    **dict.fromkeys(("CogVideoX", "Kandinsky5"), 512),
    "Kandinsky5Image": 1024,
}
"""By a picture model's class: the side in pixels at which a word is trained; else 1024 for a flow model."""
ENGINES = {"gguf": "GGUF", "nunchaku": "Nunchaku"}
"""By a part of a Python module's name: whose weights are in a form of their own, with no backward pass."""


def find(table: dict, part: object):
    """A table's entry for an object, by the name of its class or of one that it is derived from."""
    names = (kind.__name__ for kind in type(part).__mro__)
    return next((table[name] for name in names if name in table), None)


def engine(*parts: object) -> str | None:
    """The name of the pack that keeps some of the parts in a form of its own, if one does."""
    modules = (kind.__module__.lower() for part in parts for kind in type(part).__mro__)
    return next((name for module in modules for key, name in ENGINES.items() if key in module), None)
