"""References: the pictures of a library that a sound sounds like."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io

from ..aai.errors import encodable
from . import folders
from .types import CATEGORY, SOUNDWORLD, SoundEmbeddingType, SoundEncoderType, search_aliases
from .visualize import previews

log = logging.getLogger(__name__)

SIDE = 1024
"""Side of the pictures that a folder gives, in pixels: the largest model's own; training reduces them to a
smaller one's."""

NONE = "none"


class RetrieveReferenceImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_RetrieveReferenceImages",
            display_name="Retrieve Reference Images",
            category=CATEGORY,
            **search_aliases("search pictures by sound", "image library", "find references"),
            description="The pictures of a library that look most like what a sound sounds like.",
            inputs=[
                SoundEmbeddingType.Input("embedding", tooltip="From Encode Sound."),
                SoundEncoderType.Input(
                    "sound_encoder", tooltip="The encoder that made the embedding; it also sees pictures."
                ),
                io.Combo.Input(
                    "library",
                    options=[SOUNDWORLD, *folders.input_folders()],
                    default=SOUNDWORLD,
                    tooltip="A folder of pictures inside the input folder, or SoundWorld's own pictures. "
                    "What the encoder sees is kept beside the pictures, so only new ones take time.",
                ),
                io.Int.Input(
                    "k", default=4, min=1, max=64, tooltip="How many pictures; the method takes 3 to 5."
                ),
                io.Combo.Input(
                    "clip_model",
                    options=[NONE, *_clip_models()],
                    default=NONE,
                    optional=True,
                    tooltip="For a sound encoder that cannot see pictures: a folder of models/clip_vision "
                    "with a whole CLIP model (config.json, model.safetensors), the one whose text encoder "
                    "the sounds were aligned with.",
                ),
                io.String.Input(
                    "own_clip",
                    default="",
                    optional=True,
                    tooltip="The name of the clip that the sound is from: pictures of that clip in the "
                    "library are left out. Empty: told by the sound's file name, if that has a number in it.",
                ),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="The pictures, best first."),
                io.String.Output(
                    "scores",
                    display_name="scores",
                    tooltip="Each picture's name and its cosine to the sound.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, library):
        # What is said is shown for every input that is asked for.
        return True if library == SOUNDWORLD else folders.check_input_folder(library)

    @classmethod
    def fingerprint_inputs(cls, library, k, clip_model=NONE, own_clip="", **links):
        return [library, k, clip_model, own_clip, _stamp(library)]

    @classmethod
    def execute(cls, embedding, sound_encoder, library, k, clip_model=NONE, own_clip="") -> io.NodeOutput:
        note = ""
        if library == SOUNDWORLD:
            from ..aai.soundworld import library as soundworld

            pictures, scores = soundworld.references(embedding.f_a, sound_encoder, k)
            images = pictures.movedim(1, -1).contiguous()
            names = [f"{SOUNDWORLD} {i + 1}" for i in range(len(scores))]
        else:
            from ..aai import image
            from ..aai.library.index import index
            from ..aai.library.retrieval import clip_of, retrieve
            from ..aai.library.towers import tower_of
            from .comfy.progress import Bar

            folder = folders.input_folder(library)
            tower = tower_of(sound_encoder, _clip_folder(clip_model), "clip_model")
            held = index(folder, tower, callback=Bar())
            retrieval = retrieve(embedding.f_a, held, k, own_clip.strip() or clip_of(embedding.sound))
            found, note = retrieval.references, retrieval.note
            # 64 of them are 800 MB, which are not to be held twice.
            images = torch.empty(len(found), SIDE, SIDE, 3)
            for row, reference in zip(images, found):
                row.copy_(image.load(reference.path, SIDE).movedim(0, -1))
            scores = [r.score for r in found]
            names = [encodable(r.path.relative_to(folder).as_posix()) for r in found]
        lines = [f"{name} {score:.3f}" for name, score in zip(names, scores)]
        shown = [
            {**file, "name": name, "score": float(score)}
            for file, name, score in zip(previews(images), names, scores)
        ]
        if note:
            log.warning("%s", note)
        told = {"references": shown, **({"text": [note]} if note else {})}
        return io.NodeOutput(images, "\n".join(lines), ui=told)


def _stamp(library: str | None) -> str | None:
    """Tells the pictures of a library from others; None where the choice is no folder of pictures."""
    from ..aai.errors import InputError
    from ..aai.library.index import scan

    if library in (None, SOUNDWORLD):
        return None
    try:
        return folders.digest(scan(folders.input_folder(library)).items())
    except InputError:
        return None


def _clip_folder(name: str) -> Path | None:
    """The folder of a CLIP model, None for none. Raises InputError for a name that is not there."""
    from ..aai.errors import InputError

    if name == NONE:
        return None
    folder = _clip_models().get(name)
    if folder is None:
        raise InputError(f"There is no CLIP model '{name}' in models/clip_vision: choose another, or none.")
    return folder


def _clip_models() -> dict[str, Path]:
    """{name: folder} of the CLIP models in transformers' layout within models/clip_vision."""
    found = {}
    for root in folder_paths.get_folder_paths("clip_vision"):
        for config in sorted(Path(root).glob("*/config.json")):
            try:
                kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
            except (OSError, ValueError, AttributeError):
                continue
            if kind == "clip":
                found.setdefault(config.parent.name, config.parent)
    return found


NODES = [RetrieveReferenceImages]
