"""What families of models do not say of themselves.

All else is read from the loaded objects (`clip.py`, `picture.py`). A family that is in none of these tables
is served by what can be read.
"""

from __future__ import annotations

from dataclasses import dataclass

POOLED = {
    "FluxClipModel": ("clip_l",),
    "HunyuanVideoClipModel": ("clip_l",),
    "Kandinsky5TEModel": ("clip_l",),
    "HiDreamTEModel": ("clip_l", "clip_g"),
}
"""By a text model's class: the encoders of which the picture model sees the pooled text alone."""
CONTEXT = {"HiDreamTEModel": ("t5xxl",), "HyditModel": ("hydit_clip",)}
"""By a text model's class: the encoders whose rows are the conditioning, where others' come beside it."""
CUT_OFF = {"HunyuanVideoClipModel": (128009, 1), "LongCatImageTEModel": (151645, 0)}
"""By a text model's class, where the prompt is cut off at both ends: the token id whose last place in it ends
the conditioning, and how many rows of it are still there."""
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
DISTILLED = ("FluxSchnell", "ZImage")
"""Classes of configurations whose models are drawn without guidance, though nothing in them says so. Z-Image
Turbo and the model that it was distilled from have one: the first burns under guidance, the other is weak
without."""


@dataclass(frozen=True)
class Attention:
    """Where a transformer's attention meets its prompt, as patterns of its modules' names.

    joint: modules whose call has the text and the picture in one sequence. cross, own: those that read the
    text alone, and the picture alone, where there are no joint ones. text: those that refine the text before.
    first: whether the text stands in front of the picture. registers: the parameter, and front: the argument,
    whose rows stand in front of the text. beside: the argument whose rows stand twice more behind the text,
    once as one layer and once as another. lost: the arguments that move the text where it is not found, and
    what is said of each. filler: the module that embeds the text, the parameter that it is filled up with,
    and the attribute that says to which multiple. mean: the module that gets the mean of the text's rows.
    pictures: how many a latent frame is, but the first, which is one.
    """

    joint: str = ""
    cross: str = ""
    own: str = ""
    text: str = ""
    first: bool = True
    registers: str = ""
    front: str = ""
    beside: str = ""
    filler: tuple[str, str, str] = ("", "", "")
    mean: str = ""
    pictures: int = 1
    lost: tuple[tuple[str, str], ...] = ()


_QUOTED = (
    "What stands in quotes is read by an encoder of its own, which no edit knows: write the prompt without "
    "quotes."
)
_CAPTIONED = (
    "This model puts texts of its references in front of the prompt, where no edit finds its words: take the "
    "reference latents off the conditioning."
)
_STREAMS = r"(double|single)_blocks\.\d+"
_REFINED = {"joint": r"layers\.\d+\.attn", "text": r"context_refiner\.\d+\.attn"}
ATTENTION = {
    "Flux": Attention(joint=_STREAMS),
    "Chroma": Attention(joint=_STREAMS),
    "HunyuanVideo": Attention(
        joint=_STREAMS,
        text=r"txt_in\.individual_token_refiner\.blocks\.\d+",
        mean="txt_in.c_embedder",
        front="clip_fea",
        lost=(("txt_byt5", _QUOTED),),
    ),
    "QwenImageTransformer2DModel": Attention(joint=r"transformer_blocks\.\d+\.attn"),
    "OpenAISignatureMMDITWrapper": Attention(joint=r"joint_blocks\.\d+"),
    "NextDiT": Attention(
        joint=r"layers\.\d+\.attention",
        text=r"context_refiner\.\d+\.attention",
        filler=("cap_embedder", "cap_pad_token", "pad_tokens_multiple"),
        lost=(("ref_latents", _CAPTIONED),),
    ),
    "OmniGen2Transformer2DModel": Attention(**_REFINED),
    "HiDreamImageTransformer2DModel": Attention(
        joint=r"(double|single)_stream_blocks\.\d+\.block\.attn1",
        first=False,
        beside="encoder_hidden_states_llama3",
    ),
    "MMDiT": Attention(joint=r"(double|single)_layers\.\d+\.attn", registers="register_tokens"),
    "WanModel": Attention(
        cross=r"(vace_)?blocks\.\d+\.cross_attn", own=r"(vace_)?blocks\.\d+\.self_attn", pictures=4
    ),
    "LTXVModel": Attention(
        cross=r"transformer_blocks\.\d+\.attn2", own=r"transformer_blocks\.\d+\.attn1", pictures=8
    ),
    "GeneralDIT": Attention(
        cross=r"blocks\.block\d+\.blocks\.1\.block\.attn",
        own=r"blocks\.block\d+\.blocks\.0\.block\.attn",
        pictures=8,
    ),
    "MiniTrainDIT": Attention(cross=r"blocks\.\d+\.cross_attn", own=r"blocks\.\d+\.self_attn", pictures=4),
}
"""By a transformer's class: where its attention meets its prompt."""
SECOND_CALL = ("WanI2VCrossAttention",)
"""Modules that first look at a picture, and then at the text."""
AHEAD = {
    "SCAILWanModel": "reference_latent",
    "OmniGen2Transformer2DModel": "ref_latents",
    "HunyuanVideo": "ref_latent",
}
"""By a transformer's class: the argument whose latents stand in front of the picture's own. Others put theirs
behind it, but for Wan's models with a `ref_conv`."""
PIECEWISE = ("CausalWanModel",)
"""Transformers that draw a film piece by piece, and do not say which piece it is."""
LEFT = ("Flux2",)
"""Picture models that put zeros in front of a short text, and so end all texts at one place."""
UNHOOKED = {
    "ErnieImageModel": "Ernie-Image's attention cannot be reached from outside",
    "PixArt": "PixArt's attention cannot be reached from outside",
    "PixArtMS": "PixArt's attention cannot be reached from outside",
    "Anima": "Anima reads its prompt as a second encoder's ids, which no edit knows",
    "LTXAVModel": "LTX-2 rearranges its prompt's places behind the text encoder",
}
"""By a transformer's class: why its attention cannot be edited."""
ENGINES = {"gguf": "GGUF", "nunchaku": "Nunchaku"}
"""By a part of a Python module's name: whose weights are in a form of their own, with no backward pass."""


def find(table: dict, part: object):
    """A table's entry for an object, by the name of its class or of one that it is derived from."""
    names = (kind.__name__ for kind in type(part).__mro__)
    return next((table[name] for name in names if name in table), None)


def is_one(names: tuple[str, ...], part: object) -> bool:
    """Whether an object is of one of these classes, or of one that is derived from one."""
    return any(kind.__name__ in names for kind in type(part).__mro__)


def engine(*parts: object) -> str | None:
    """The name of the pack that keeps some of the parts in a form of its own, if one does."""
    modules = (kind.__module__.lower() for part in parts for kind in type(part).__mro__)
    return next((name for module in modules for key, name in ENGINES.items() if key in module), None)
