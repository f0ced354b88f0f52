"""What the product is to do with an example: each takes the example's arguments, in the folder of its files.

A function here calls the product as its nodes and commands do, one thing after another, and returns in a few
words what came of it.
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

import torch

from aai import audio, image, token
from aai.errors import InputError

from . import seeds
from .example import Example

MARKER = "executed"
"""The file, beside the examples' folder, that the pickles among them would write."""


class Refused(Exception):
    """The command line refused its arguments, or ended with exit code 2, in one sentence."""


def run(example: Example) -> str | None:
    return globals()[example.action](**example.arguments)


def load_sound(name: str, start: float = 0.0, seconds: float | None = None) -> str:
    from aai.encoders.base import encode_sound

    sound = audio.load(name, start, seconds)
    embedding = encode_sound(seeds.encoder(), sound, name)
    audio.save(sound.cut(0, 1), "written.flac")
    return f"{sound.seconds:.2f} s, {embedding.loudness:.1f} LUFS"


def load_picture(name: str, size: int | None = None) -> str:
    ours = image.is_ours(name)
    picture = image.load(name, size)
    image.save(picture, "written.png")
    return f"{tuple(picture.shape)}, ours: {ours}"


def load_token(name: str) -> str:
    from aai.prompt import Prompt

    loaded = token.load(name)
    loaded.describe()
    if loaded.f_adapter:
        with contextlib.suppress(InputError):
            loaded.with_sound(torch.ones(192), -20.0).save("other.safetensors")
    loaded.save("written.safetensors")
    token.load("written.safetensors")
    seeds.model().encode_prompt(Prompt("a city under * and <rain>", (loaded,)))
    return loaded.name


def load_encoder(name: str) -> str:
    from aai.encoders import loaders
    from aai.encoders.base import encode_sound, nearest_words

    encoder = loaders.load(name)
    embedding = encode_sound(encoder, audio.from_tensor(torch.ones(4000) * 0.1, 16000), "sound")
    if encoder.labels:
        nearest_words(encoder, embedding.f_a[None], 3)
    loaders.save(encoder, "written.safetensors")
    return f"{encoder.name}, {encoder.dim}"


def load_adapter(name: str) -> str:
    from aai.adapt import universal_file
    from aai.prompt import Prompt

    adapter = universal_file.load(name)
    adapter.describe()
    made = adapter.token(torch.ones(adapter.dim), "rain")
    made.save("rain.safetensors")
    universal_file.save(adapter, "written.safetensors", training=True)
    universal_file.load("written.safetensors")
    seeds.model().encode_prompt(Prompt("a city under *", (made,)))
    return f"{adapter.name}, {adapter.dim}"


def load_trajectory(name: str) -> str:
    from aai.inject.edit import Edit
    from aai.inject.invert import load
    from aai.prompt import Prompt

    trajectory, prompt = load(name)
    edit = Edit(
        Prompt(prompt), (Prompt("a city under *", (token.load("rain.safetensors"),)),), trajectory=trajectory
    )
    run = edit.begin(trajectory.clean.shape, 2, 5.0)
    trajectory.at(1.5)
    if trajectory.nulls is not None:
        trajectory.null(1.5)
    return f"{prompt[:20]}, {len(trajectory.sigmas)}, {run is not None}"


def open_library(name: str) -> str:
    from aai.library.index import read
    from aai.library.retrieval import retrieve
    from aai.library.towers import tower_of

    library = read(name, tower_of(seeds.encoder()))
    return f"{len(retrieve(torch.ones(192), library, 2).references)} of {len(library.names)}"


def index_folder(folder: str, file: str | None = None) -> str:
    from aai.library.index import index
    from aai.library.retrieval import retrieve
    from aai.library.towers import tower_of

    library = index(folder, tower_of(seeds.encoder()), file)
    return f"{len(retrieve(torch.ones(192), library, 2).references)} of {len(library.names)}"


def load_clip(folder: str) -> str:
    from aai.encoders.clip import load_clip

    clip = load_clip(folder)
    with contextlib.suppress(InputError):
        clip.embed_text(["rain"])
    return str(tuple(clip.embed_images(torch.rand(1, 3, 20, 20)).shape))


def load_clip_text(folder: str) -> str:
    from aai.encoders.clip import load_clip_text

    return str(tuple(load_clip_text(folder).embed(["rain", "a dog"]).shape))


def load_clap(folder: str) -> str:
    from aai.encoders.clap import load_folder

    return load_folder(folder)[0].name


def load_diffusers(folder: str) -> str:
    from aai.picture.diffusers import load
    from aai.prompt import Prompt

    model = load(folder)
    return str(tuple(model.encode_prompt(Prompt("a city")).cross.shape))


def scan_clips(folder: str, split: str | None = None) -> str:
    from aai.data.clips import scan

    clips = scan(folder, split)
    for clip in clips[:3]:
        clip.load_sound()
        clip.load_picture(clip.middle, 32)
    return f"{len(clips)} clips of {len({clip.label for clip in clips})} labels"


def read_benchmark(folder: str) -> str:
    from aai.data.benchmarks import read_recordings

    name, recordings = read_recordings(folder)
    return f"{name}: {len(recordings)}"


def prepare(source: str, listed: str | None = None, labels: str | None = None, **settings) -> str:
    from aai.data.clip_writer import PrepareSettings
    from aai.data.prepare import prepare as make

    made = make(source, "prepared", PrepareSettings(**settings), listed, labels)
    return f"{made.clips} made, {len(made.bad)} bad"


def lay_out(texts: list[str], tokens: list[str]) -> str:
    """The first text as the source of the others, all with the tokens of the files `tokens`."""
    from aai.inject.edit import Edit, encode
    from aai.inject.loudness import read_scales
    from aai.prompt import Prompt

    loaded = tuple(token.load(name) for name in tokens)
    prompts = [Prompt(text, loaded) for text in texts]
    for prompt in prompts:
        seeds.model().encode_prompt(prompt)
    with contextlib.suppress(InputError):
        read_scales(texts[0])
    edit = Edit(prompts[0], tuple(prompts[1:]))
    encoded = encode(seeds.model().encode_prompt, edit)
    edit.at(0.3, 10, encoded.token_ids, 77)
    return f"{len(prompts)} prompts"


def make_settings(name: str, values: dict) -> str:
    """A dataclass of settings by its dotted name, and what checks its values after it is made."""
    import importlib

    module, _, attribute = name.rpartition(".")
    made = getattr(importlib.import_module(module), attribute)(**values)
    return type(made).__name__


def command(arguments: list[str]) -> str:
    """`aai` with these arguments: exit code 0, or 2 with one sentence."""
    from aai.cli import main

    out, err = io.StringIO(), io.StringIO()
    # As a process would get them: bytes that are no UTF-8 are lone surrogates.
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as error:
            code = error.code
    said = err.getvalue().strip().splitlines()
    if code == 0:
        return out.getvalue()[:200]
    if code != 2 or not said or not said[-1].startswith("aai") or "Traceback" in err.getvalue():
        raise RuntimeError(f"exit code {code!r}, and on stderr: {err.getvalue()[-400:]}")
    raise Refused(said[-1])


def tally(answers: list[str], key: str) -> str:
    from aai.study.user_study_tally import shown
    from aai.study.user_study_tally import tally as count

    return shown(count([Path(path) for path in answers], Path(key)))[:80]


if sys.platform == "win32":
    raise SystemExit("The examples are forked, which Windows cannot: run them on Linux or macOS.")
