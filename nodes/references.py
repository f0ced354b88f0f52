"""Reference pictures: those of a library that are nearest to a sound."""

from __future__ import annotations

import json
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io

from ..aai.errors import InputError, encodable, logger
from . import folders
from .types import (
    CATEGORY,
    NONE,
    SOUNDWORLD,
    Node,
    SoundEmbeddingType,
    SoundEncoderType,
    fold,
    search_aliases,
)
from .visualize import previews

log = logger(__name__)

SIDE = 1024
"""Side of the pictures that a folder gives, in pixels: the largest model's own; training reduces them to a
smaller one's."""


class RetrieveReferenceImages(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
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
        return fold(schema, in_sight=["library", "k", "clip_model"])

    @classmethod
    def validate_inputs(cls, library):
        # The answer is shown for every input that is named here.
        return True if library == SOUNDWORLD else folders.check_input_folder(library)

    @classmethod
    def fingerprint_inputs(cls, library, k, clip_model=NONE, own_clip="", **links):
        clip = _clip_models().get(clip_model)
        return [library, k, clip_model, clip and folders.stamp(clip), own_clip, _stamp(library)]

    @classmethod
    def execute(cls, embedding, sound_encoder, library, k, clip_model=NONE, own_clip="") -> io.NodeOutput:
        if library == SOUNDWORLD:
            (images, scores, names), note = _from_soundworld(embedding, sound_encoder, k), ""
        else:
            folder, clip_folder = folders.input_folder(library), _clip_folder(clip_model)
            images, scores, names, note = _from_folder(
                embedding, sound_encoder, folder, k, clip_folder, own_clip.strip()
            )
        lines = [f"{name} {score:.3f}" for name, score in zip(names, scores)]
        rows = [
            {**file, "name": name, "score": float(score)}
            for file, name, score in zip(previews(images), names, scores)
        ]
        if note:
            log.warning("%s", note)
        # Core joins what the items of a list show by the keys of the first.
        shown = {"references": rows, "text": [note] if note else []}
        return io.NodeOutput(images, "\n".join(lines), ui=shown)


def _from_soundworld(embedding, sound_encoder, k: int) -> tuple[torch.Tensor, list[float], list[str]]:
    """IMAGE [k, H, W, 3], cosines and names of SoundWorld's own pictures."""
    from ..aai.soundworld.library import references

    pictures, scores = references(embedding.f_a, sound_encoder, k)
    return pictures.movedim(1, -1).contiguous(), scores, [f"{SOUNDWORLD} {i + 1}" for i in range(len(scores))]


def _from_folder(
    embedding, sound_encoder, folder: Path, k: int, clip_folder: Path | None, own_clip: str
) -> tuple[torch.Tensor, list[float], list[str], str]:
    """IMAGE [k, SIDE, SIDE, 3], cosines and names of a folder's pictures, and a note on those left out."""
    from ..aai import image
    from ..aai.library.index import index
    from ..aai.library.retrieval import clip_of, retrieve
    from ..aai.library.towers import tower_of
    from .comfy.progress import Bar

    pictures = index(folder, tower_of(sound_encoder, clip_folder, "clip_model"), callback=Bar())
    retrieval = retrieve(embedding.f_a, pictures, k, own_clip or clip_of(embedding.sound))
    references = retrieval.references
    # In place: 64 of them are 800 MB, once.
    images = torch.empty(len(references), SIDE, SIDE, 3)
    for row, reference in zip(images, references):
        row.copy_(image.load(reference.path, SIDE).movedim(0, -1))
    names = [encodable(r.path.relative_to(folder).as_posix()) for r in references]
    return images, [r.score for r in references], names, retrieval.note


def _stamp(library: str | None) -> str | None:
    """A digest of a library's pictures; None where the choice is not a folder of pictures."""
    from ..aai.library.index import scan

    if library in (None, SOUNDWORLD):
        return None
    try:
        return folders.digest(scan(folders.input_folder(library)).items())
    except InputError:
        return None


def _clip_folder(name: str) -> Path | None:
    """The folder of a CLIP model, None for none. Raises InputError for a name that is not there."""
    if name == NONE:
        return None
    folder = _clip_models().get(name)
    if folder is None:
        raise InputError(f"There is no CLIP model '{name}' in models/clip_vision: choose another, or none.")
    return folder


def _clip_models() -> dict[str, Path]:
    """{name: folder} of the CLIP models in transformers' layout within models/clip_vision."""
    models = {}
    for root in folder_paths.get_folder_paths("clip_vision"):
        for config in sorted(Path(root).glob("*/config.json")):
            try:
                kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
            except (OSError, ValueError, AttributeError):
                continue
            if kind == "clip":
                models.setdefault(config.parent.name, config.parent)
    return models


NODES = [RetrieveReferenceImages]
