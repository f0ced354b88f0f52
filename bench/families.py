"""What each family of picture models can do, tried on it at a tiny size (`bench.tiny_models`) in the ComfyUI
that COMFYUI_PATH names: "yes", or the reason why not.

word: a sound's vector is what every text encoder gets at the word's place. train: twenty steps lower the
loss on fixed noise. edit: a pair's source is what an edit of another scale has for one, and the edited
picture is another. loudness: a word's weight of 1 is the plain picture, and 0 another. heat map: where a word
looks is seen, and the picture stays the same. film: along a timeline of two sounds the source is still, and
each moment has a picture of its own; on a video model, frames of one clip.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from aai import files
from aai.demo.comfy_server import find_comfy
from aai.errors import InputError
from bench import tiny_models

PACK = "aai_pack"
CELLS = ("yes", "no")
BEGIN, END = "<!-- python -m bench families --into README.md -->", "<!-- families -->"
"""The lines of a document between which the table stands."""
LABELS = ["rain", "thunder", "fire", "a dog", "a clock", "wind", "sea waves", "a rooster"]


def rows(measure) -> list[dict]:
    """{"what": "Z-Image: word", "value": "yes"} for each family and ability."""
    # ComfyUI and its parts say on the standard output what they find.
    with contextlib.redirect_stdout(sys.stderr):
        return tried_rows()


def tried_rows() -> list[dict]:
    part = load_pack()
    found = []
    for family in tiny_models.FAMILIES.values():
        try:
            tiny = tiny_models.build(family)
        except tiny_models.Absent as absent:
            abilities = dict.fromkeys(ABILITIES, str(absent))
        else:
            abilities = {what: tried(ability, part, tiny) for what, ability in ABILITIES.items()}
        found += [{"what": f"{family.name}: {what}", "value": value} for what, value in abilities.items()]
    return found


def table(found: list[dict]) -> str:
    """`rows` as Markdown: a family a line, "yes" or "no" an ability; the reasons are left out."""
    families: dict[str, dict[str, str]] = {}
    for row in found:
        name, _, what = row["what"].partition(": ")
        families.setdefault(name, {})[what] = row["value"]
    abilities = list(next(iter(families.values())))
    lines = [["Model", *abilities], ["---"] * (1 + len(abilities))]
    for name, values in families.items():
        lines.append([name, *(v if (v := values[what]) in CELLS else "no" for what in abilities)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_table(found: list[dict], path: Path) -> None:
    """Writes `table` into a document, between the lines BEGIN and END.

    Raises InputError for a document without them.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{path} has no place for the table, between the lines {BEGIN} and {END}.")
    files.write(path, f"{before}{BEGIN}\n{table(found)}\n{END}{after}".encode(), "The document")


def load_pack():
    """part("nodes.adapt") -> a module of the pack, loaded as ComfyUI does it.

    Raises InputError where there is no ComfyUI.
    """
    path = find_comfy()
    if path is None:
        raise InputError("There is no ComfyUI to build families with: name its folder in COMFYUI_PATH.")
    # First on the path: our own folder nodes/ would shadow ComfyUI's nodes.py.
    sys.path.insert(0, str(path))
    from comfy.cli_args import args

    args.cpu, args.base_directory = not torch.cuda.is_available(), tempfile.mkdtemp()
    spec = importlib.util.spec_from_file_location(PACK, Path(__file__).parents[1] / "__init__.py")
    module = sys.modules[PACK] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asyncio.run(module.comfy_entrypoint())
    return lambda name: importlib.import_module(f"{PACK}.{name}")


def tried(ability, part, tiny: tiny_models.Tiny) -> str:
    try:
        return ability(part, tiny)
    except part("aai.errors").InputError as error:
        return str(error)


def token_of(part, tiny: tiny_models.Tiny):
    """A sound token of a vector for each of the family's text encoders."""
    clip, generator = part("nodes.comfy.clip"), torch.Generator().manual_seed(5)
    widths = {key: clip.vocabulary(tiny.clip, key).embedding_dim for key in clip.encoders(tiny.clip)}
    vectors = {key: torch.randn(1, width, generator=generator) for key, width in widths.items()}
    return part("aai.token").SoundToken("rain", vectors)


def word(part, tiny: tiny_models.Tiny) -> str:
    clip, prompt = part("nodes.comfy.clip"), part("aai.prompt").Prompt
    token, seen = token_of(part, tiny), {}
    vectors, hooks = token.vectors, []
    for key in vectors:

        def look(module, given, named, key=key):
            # A copy: the encoder goes on in place.
            seen[key] = named["embeds"].detach().clone().flatten(0, 1)

        tower = getattr(tiny.clip.cond_stage_model, key).transformer
        hooks.append(tower.register_forward_pre_hook(look, with_kwargs=True))
    with torch.inference_mode():
        clip.encode(tiny.clip, prompt("a photo of * at night", (token,)))
    for hook in hooks:
        hook.remove()
    lost = [k for k, v in vectors.items() if not ((seen[k].float() - v).abs().amax(-1) < 1e-5).any()]
    return f"{', '.join(lost)} did not get its vector" if lost else "yes"


def train(part, tiny: tiny_models.Tiny) -> str:
    settings = part("aai.adapt.settings").TrainSettings(steps=20, batch=8, rho=None, seed=3, validate=20)
    table = sound_table()
    picture = part("nodes.comfy.picture").ComfyPictureModel(tiny.model, tiny.clip, None)
    with torch.inference_mode(), picture.training() as trainable:
        result = part("aai.adapt.train").train_token(
            trainable, table[0] + 0.1 * table[1], tiny.latents, settings, encoded=True, table=(LABELS, table)
        )
    (_, first), (_, last) = result.validations
    return "yes" if last < first else f"the loss went from {first:.4f} to {last:.4f}"


def edit(part, tiny: tiny_models.Tiny) -> str:
    token, pairs = token_of(part, tiny), []
    for scale in ("1", "0"):
        model, positive, latent = run(
            part("nodes.inject").PromptToPromptEdit, model=tiny.model, clip=tiny.clip, token=token,
            latent={"samples": torch.zeros(1, *tiny.latents.shape[1:])}, source_prompt="a photo of a city",
            edited_prompt="a photo of a city under *", scale=scale, windows="keep the scene", cross_end=0.8,
            self_end=0.4, self_downscale=4, silence="full",
        )  # fmt: skip
        pairs.append(drawn(tiny, model, positive, latent))
    (source, edited), (same, silent) = pairs
    moved, apart = _apart(source, same), min(_apart(source, edited), _apart(edited, silent))
    if moved > 1e-5 * max(1.0, float(source.abs().max())):
        return f"the source moves by {moved:.2g}"
    return "yes" if apart > 1e-4 else f"the edited picture moves by {apart:.2g} only"


def loudness(part, tiny: tiny_models.Tiny) -> str:
    inject, latent = part("nodes.inject"), {"samples": torch.zeros(1, *tiny.latents.shape[1:])}
    (positive,) = run(
        inject.SoundTokenConditioning, clip=tiny.clip, token=token_of(part, tiny), prompt="heavy rain in *"
    )
    drawings = [drawn(tiny, tiny.model, positive, latent)]
    for scale in ("1", "0"):
        model, _ = run(
            part("nodes.loudness").LoudnessReweight, model=tiny.model, conditioning=positive, tokens="heavy",
            scale=scale, reference=-23.0,
        )  # fmt: skip
        drawings.append(drawn(tiny, model, positive, latent))
    plain, whole, without = drawings
    if _apart(plain, whole) > 1e-6:
        return f"a weight of 1 moves the picture by {_apart(plain, whole):.2g}"
    apart = _apart(plain, without)
    return "yes" if apart > 1e-5 else f"a weight of 0 moves the picture by {apart:.2g} only"


def heat_map(part, tiny: tiny_models.Tiny) -> str:
    latent = {"samples": torch.zeros(1, *tiny.latents.shape[1:])}
    (positive,) = run(
        part("nodes.inject").SoundTokenConditioning,
        clip=tiny.clip,
        token=token_of(part, tiny),
        prompt="a * at night",
    )
    model, maps = run(part("nodes.visualize").AttentionHeatmap, model=tiny.model, conditioning=positive)
    moved = _apart(drawn(tiny, tiny.model, positive, latent), drawn(tiny, model, positive, latent))
    if moved:
        return f"the picture moves by {moved:.2g}"
    seen = not maps.is_empty and float(maps.maps().std()) > 0
    return "yes" if seen else "the word is not seen to look anywhere"


def film(part, tiny: tiny_models.Tiny) -> str:
    """Two moments of two sounds, in either order: pictures of their own, or latent frames of a clip."""
    pictures, shape = part("nodes.comfy.film").pictures_of(tiny.model), tiny.latents.shape[1:]
    clip, token = pictures > 1, heard_token(part, tiny)
    samples = torch.zeros(1, shape[0], 2, *shape[2:]) if clip else torch.zeros(1, *shape)
    films = []
    for order in ((0, 1), (1, 0)):
        model, positive, latent = run(
            part("nodes.inject").PromptToPromptEdit, model=tiny.model, clip=tiny.clip, token=token,
            latent={"samples": samples}, source_prompt="a photo of a city",
            edited_prompt="a photo of a city under *", scale="1", windows="as set below", cross_end=0.0,
            self_end=0.0, self_downscale=4, silence="full",
            timeline=timeline_of(part, token, np.repeat(order, [1, pictures])),
        )  # fmt: skip
        films.append(drawn(tiny, model, positive, latent))
    still = _apart(films[0][0], films[1][0])
    if still > 1e-5 * max(1.0, float(films[0].abs().max())):
        return f"the source moves by {still:.2g}"
    first, second = films[0][1].unbind(1) if clip else films[0][1:]
    return "yes" if _apart(first, second) > 1e-4 else "two sounds are one picture"


def heard_token(part, tiny: tiny_models.Tiny):
    """A token that takes any sound f_a, by the words that its encoder knows."""
    picture = part("nodes.comfy.picture").ComfyPictureModel(tiny.model, tiny.clip, None)
    table, token = sound_table(), part("aai.token")
    f_a = table[0] + 0.1 * table[1]
    maps = part("aai.adapt.translation").translations(picture, f_a, LABELS, table)
    scale = {key: info.mean_norm for key, info in picture.text_encoders.items()}
    adapter = {key: torch.zeros(1, info.dim) for key, info in picture.text_encoders.items()}
    vectors = {key: token.word_vectors(maps[key](f_a), s, adapter[key]) for key, s in scale.items()}
    return token.SoundToken("rain", vectors, f_a, adapter, scale, translation=maps)


def timeline_of(part, token, stretch: np.ndarray):
    """A timeline of frames that show the token's own sound (0), and another (1)."""
    meter, f_a = part("aai.meter").LoudnessMeter(), torch.stack([token.f_a, sound_table()[2]])
    meter.add(part("aai.audio").Sound(torch.randn(1, 16000), 16000))
    windows = part("aai.inject.windows").SoundWindows(
        f_a, torch.zeros(2, dtype=torch.bool), torch.eye(2), torch.ones(2), 0.5, 0.25, 2.0, meter,
        ("rain", "fire"), "ear",
    )  # fmt: skip
    flat = np.ones(len(stretch))
    return part("aai.inject.timeline").Timeline(
        16.0, ("",) * len(stretch), stretch, f_a, 0 * flat, flat, windows
    )


def sound_table() -> torch.Tensor:
    """The vectors of LABELS, in a space of 48 that no text encoder shares."""
    vectors = torch.randn(len(LABELS), 48, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.normalize(vectors, dim=-1)


ABILITIES = {
    **{ability.__name__: ability for ability in (word, train, edit, loudness)},
    "heat map": heat_map,
    "film": film,
}


def run(node, **inputs) -> tuple:
    """A node's outputs, as in the executor; of a list of one, the one."""
    slots = node.GET_SCHEMA().outputs
    with torch.inference_mode():
        outputs = node.PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(**inputs).args
    return tuple(value[0] if slot.is_output_list else value for slot, value in zip(slots, outputs))


def drawn(tiny: tiny_models.Tiny, model, positive: list, latent: dict) -> torch.Tensor:
    """Latents of three steps by core's KSampler."""
    import nodes

    with torch.inference_mode():
        negative = tiny.clip.encode_from_tokens_scheduled(tiny.clip.tokenize("blurry"))
        (made,) = nodes.common_ksampler(model, 7, 3, 3.0, "euler", "simple", positive, negative, latent)
    return made["samples"]


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())
