"""Sound tokens as files of models/embeddings, and with another sound in them."""

from __future__ import annotations

import os
from dataclasses import replace

import folder_paths
from comfy_api.latest import io

from ..aai.errors import InputError, logger, sentence
from ..aai.files import is_reserved
from . import folders
from .types import CATEGORY, Node, SoundEmbeddingType, SoundTokenType, search_aliases

log = logger(__name__)

LONGEST_NAME = 180
"""Bytes of a file's name that a token gives; names of files may have some more."""
UNREAD = set(
    "gemma2_2b gemma3_4b gemma3_12b gemma4 mt5xl pile_t5xl qwen25_3b qwen25_7b qwen3_2b umt5xxl".split()
)
"""Text encoders to whose tokenizers core gives no folders of embeddings (0.33)."""


class RebindSoundToken(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_RebindSoundToken",
            display_name="Rebind Sound Token",
            category=CATEGORY,
            **search_aliases("swap sound", "exchange sound"),
            description="The same adapter with another sound (the paper's Fig. 6b): no training.",
            inputs=[
                SoundTokenType.Input("token", tooltip="A token that this pack trained."),
                SoundEmbeddingType.Input("embedding", tooltip="The other sound, heard by the same encoder."),
                new_name(),
            ],
            outputs=[
                SoundTokenType.Output(
                    "rebound", display_name="token", tooltip="The token of the other sound."
                )
            ],
        )

    @classmethod
    def execute(cls, token, embedding, name="") -> io.NodeOutput:
        rebound = token.with_sound(embedding.f_a, embedding.loudness, provenance_of(embedding))
        return io.NodeOutput(renamed(rebound, name))


class SaveSoundToken(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_SaveSoundToken",
            display_name="Save Sound Token",
            category=CATEGORY,
            **search_aliases("save embedding", "textual inversion"),
            description="Saves a token in models/embeddings. Prompts can then say embedding:name.",
            inputs=[
                SoundTokenType.Input("token", tooltip="The token to save."),
                io.String.Input(
                    "name",
                    default="",
                    tooltip="The file's name; folders with /. Empty, or a folder's name with / at its end, "
                    "takes the token's name.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Replace a sound token of this name; otherwise a number is added to it.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "word", display_name="word", tooltip="What to write in a prompt: embedding:name."
                )
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, overwrite=False, **others):
        return folders.saving_stamp(overwrite)

    @classmethod
    def execute(cls, token, name, overwrite) -> io.NodeOutput:
        folder, slash, file = name.strip().rpartition("/")
        word = save(token, folder + slash + (file or file_name(token.name)), overwrite)
        shown = [f"embedding:{word}"]
        if UNREAD.issuperset(token.vectors):
            shown.append(
                "(ComfyUI reads no embedding: in prompts of this text encoder; use Load Sound Token and "
                "Sound Token Conditioning)"
            )
            log.warning("%s", " ".join(shown))
        return io.NodeOutput(f"embedding:{word}", ui={"text": shown})


class LoadSoundToken(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AAI_LoadSoundToken",
            display_name="Load Sound Token",
            category=CATEGORY,
            **search_aliases("load embedding", "textual inversion"),
            description="A token from models/embeddings: this pack's, or any textual-inversion embedding.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folder_paths.get_filename_list("embeddings"),
                    tooltip="A file of models/embeddings, as wide as the checkpoint's text encoder.",
                ),
                new_name(),
            ],
            outputs=[
                SoundTokenType.Output("token", display_name="token", tooltip="The sound token."),
                io.String.Output(
                    "provenance",
                    display_name="provenance",
                    tooltip="Where the token comes from: its sound, encoder, model, training, loudness, "
                    "licence.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file, name=""):
        path = file and token_file(file)
        return [file, os.stat(path).st_mtime_ns if path else None, name]

    @classmethod
    def validate_inputs(cls, file):
        # A link's value is None before it ran.
        return True if file is None or token_file(file) else missing_token(file)

    @classmethod
    def execute(cls, file, name="") -> io.NodeOutput:
        from ..aai import token

        path = token_file(file)
        if path is None:
            raise InputError(missing_token(file))
        loaded = renamed(token.load(path), name)
        return io.NodeOutput(loaded, loaded.describe())


def token_file(name: str) -> str | None:
    """The path of a file of models/embeddings; None where there is none."""
    return folders.file_of("embeddings", name)


def missing_token(name: str) -> str:
    return sentence(f"There is no token '{name}' in models/embeddings: save one there or choose another.")


def new_name():
    """The input for a token's new name."""
    return io.String.Input(
        "name",
        optional=True,
        default="",
        tooltip="The token's new name, where a prompt has two of the same; empty keeps the old one.",
    )


def renamed(token, name: str):
    """A token under another name; without one, as it is. Raises InputError for a name that can be none."""
    return replace(token, name=name.strip() or token.name)


def provenance_of(embedding, licence: str = "") -> dict[str, str]:
    """What a token's file says of its sound, and of the rights in it where the user does."""
    return {**embedding.provenance(), **({"licence": licence} if licence else {})}


def token_name(name: str, embedding) -> str:
    """A token's name, or where that is empty, its sound's."""
    from ..aai.embedding import name_of

    return name.strip() or name_of(os.path.splitext(embedding.sound)[0], "sound")


def file_name(name: str) -> str:
    """A token's name as a file's, which every system takes: a prompt reads embedding:name up to the first
    space, of any kind."""
    name = "".join("_" if c.isspace() else c for c in name.strip())
    while len(name.encode(errors="replace")) > LONGEST_NAME:
        name = name[:-1]
    name = name.rstrip(".") or "sound"
    return f"{name}_" if is_reserved(name) else name


def save(token, name: str, overwrite: bool = False) -> str:
    """Saves into the first embeddings folder; returns what a prompt calls it. Raises InputError."""
    from ..aai.token import is_ours

    path = folders.place_of("embeddings", name, "a sound token", overwrite, is_ours, forbidden=" ()[]")
    token.save(path)
    return path.relative_to(folders.root_of("embeddings")).with_suffix("").as_posix()


NODES = [RebindSoundToken, SaveSoundToken, LoadSoundToken]
