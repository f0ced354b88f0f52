"""What each family of picture models can do, tried on it at a tiny size (`bench.tiny_models`) in the ComfyUI
that COMFYUI_PATH names: "yes", or the reason why not.

word: a sound's vector is what every text encoder gets at the word's place. train: twenty steps lower the
loss on fixed noise.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import sys
import tempfile
from pathlib import Path

import torch

from aai.demo.comfy_server import find_comfy
from aai.errors import InputError
from bench import tiny_models

PACK = "aai_pack"
LATER = ("edit", "loudness", "heat map", "film")
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
            abilities = dict.fromkeys(("word", "train", *LATER), str(absent))
        else:
            abilities = {"word": tried(word, part, tiny), "train": tried(train, part, tiny)}
            abilities |= dict.fromkeys(LATER, "not yet")
        found += [{"what": f"{family.name}: {what}", "value": value} for what, value in abilities.items()]
    return found


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


def word(part, tiny: tiny_models.Tiny) -> str:
    clip, prompt = part("nodes.comfy.clip"), part("aai.prompt").Prompt
    generator, seen = torch.Generator().manual_seed(5), {}
    widths = {key: clip.vocabulary(tiny.clip, key).embedding_dim for key in clip.encoders(tiny.clip)}
    vectors = {key: torch.randn(1, width, generator=generator) for key, width in widths.items()}
    token = part("aai.token").SoundToken("rain", vectors)
    hooks = []
    for key in widths:

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
    table = torch.nn.functional.normalize(
        torch.randn(8, 48, generator=torch.Generator().manual_seed(3)), dim=-1
    )
    picture = part("nodes.comfy.picture").ComfyPictureModel(tiny.model, tiny.clip, None)
    with torch.inference_mode(), picture.training() as trainable:
        result = part("aai.adapt.train").train_token(
            trainable, table[0] + 0.1 * table[1], tiny.latents, settings, table=(LABELS, table)
        )
    (_, first), (_, last) = result.validations
    return "yes" if last < first else f"the loss went from {first:.4f} to {last:.4f}"
