"""Textual-inversion files of anyone: diffusers' and ComfyUI's safetensors, A1111's `.pt`, a LoRA's.

Nothing in a file is ever executed: a pickle is opened as plain tensors or not at all.
"""

from __future__ import annotations

import base64
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import files
from .errors import InputError

WIDTHS = {
    **{768: "clip_l", 1024: "clip_h", 1280: "clip_g"},
    **{2304: "gemma2_2b", 2560: "qwen3_4b", 3584: "qwen25_7b", 4096: "t5xxl", 5120: "mistral3_24b"},
}
"""Which text encoder an embedding of a width belongs to, where its file does not say."""
CLIPS = ("clip_l", "clip_g", "clip_h")
"""The CLIP text encoders, in the order in which a token has them."""
_ENCODER = re.compile(r"clip_[lgh]|llama|hydit_clip|(?!clip_)(?=\w*\d)[a-z][a-z0-9_]{1,63}(?<!_out)")
MOST_ENCODERS = 4
"""The text encoders of a token at most; HiDream has as many."""

LONGEST = 100
"""Characters of a token's name at most."""

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
BUNDLED = "bundle_emb."
"""The beginning of an embedding's keys in a LoRA's file."""

MOST = 2**28
"""Bytes of a pickle at most; an embedding has less than a million."""


def is_encoder(name: object) -> bool:
    """Whether a name is a text encoder's: "clip_l", "t5xxl", "qwen3_4b", "llama" and the like."""
    return isinstance(name, str) and _ENCODER.fullmatch(name) is not None


def in_order(names: Iterable[str]) -> list[str]:
    """Text encoders with CLIP's first, the others as they come."""
    return sorted(names, key=lambda name: CLIPS.index(name) if name in CLIPS else len(CLIPS))


def as_name(text: str) -> str:
    """A name as tokens have it and prompts look for it: without space around it, and each letter with its
    accents as one character, however it was typed."""
    return unicodedata.normalize("NFC", text).strip()


def is_name(text: str) -> bool:
    """Whether a text, `as_name`, can be a token's name: no path, and none of a prompt's marks."""
    return 0 < len(text) <= LONGEST and text[0] not in " .+-" and all(_may_be_named(text))


def name_of(text: str, otherwise: str = "embedding") -> str:
    """A text, such as a file's stem, as a token's name, with - for whatever a name may not contain."""
    text = as_name(text)
    if not is_name(text):
        text = "".join(c if may else " " for c, may in zip(text, _may_be_named(text)))
        text = re.sub(" +", "-", text).strip("-.+")[:LONGEST].rstrip("-.+")
    return text or otherwise


def _may_be_named(text: str) -> Iterator[bool]:
    """Whether a name may have each character of a text. Many scripts write vowels as signs on a letter, and
    join or part letters by U+200D and U+200C: what belongs to no letter, as an emoji's, is left out."""
    in_word = False
    for c in text:
        sign = c in "\u200c\u200d" or unicodedata.category(c)[0] == "M"
        in_word = c.isalnum() or c == "_" or (in_word and sign)
        yield in_word or c in " .+-"


def read(path: Path) -> tuple[object, dict[str, str]]:
    """A file's content, as `vectors_of` takes it, and its metadata (a pickle has none).

    Raises InputError for a file that is damaged, holds more than tensors, or too many of them.
    """
    if path.suffix.lower() in PICKLES:
        return _read_torch(path), {}
    return _read_safetensors(path)


def vectors_of(state: object, path: Path) -> dict[str, Tensor]:
    """An embedding's vectors {text encoder: [n, d]}, float32, of all that ComfyUI's `load_embed` reads.

    Raises InputError for anything else.
    """
    refusal = InputError(
        f"'{path.name}' is no textual-inversion embedding (one tensor [n, width], or clip_l and clip_g): "
        "choose a sound token or an embedding."
    )
    vectors = {}
    for encoder, rows in _rows(state):
        whole = isinstance(rows, Tensor) and rows.is_floating_point() and rows.layout == torch.strided
        if not whole or rows.device.type != "cpu" or rows.ndim not in (1, 2) or 0 in rows.shape:
            raise refusal
        # A copy of overlapping rows (stride 0) may be larger than any file.
        if rows.numel() * rows.element_size() > rows.untyped_storage().nbytes():
            raise refusal
        rows = rows.detach().reshape(-1, rows.shape[-1])
        vectors.setdefault(encoder or WIDTHS.get(rows.shape[1], "clip_l"), []).append(rows.float())
    if not vectors or any(len({rows.shape[1] for rows in v}) > 1 for v in vectors.values()):
        raise refusal
    vectors = {k: torch.cat(vectors[k]).contiguous() for k in in_order(vectors)}
    if not all(torch.isfinite(v).all() for v in vectors.values()):
        raise InputError(f"'{path.name}' holds numbers that are not finite: choose another embedding.")
    return vectors


def _rows(state: object) -> list[tuple[str | None, object]]:
    """[(text encoder, or None where only the width says; vectors)] in a file's content."""
    if isinstance(state, list):
        return [(None, rows) for part in state if isinstance(part, Mapping) for rows in part.values()]
    if not isinstance(state, Mapping):
        return []
    if "string_to_param" in state:
        params = state["string_to_param"]
        params = vars(params).get("_parameters") if isinstance(params, _ParameterDict) else params
        return [(None, rows) for rows in list(params.values())[:1]] if isinstance(params, Mapping) else []
    bundled = [(key.rsplit(".", 1)[1], rows) for key, rows in state.items() if _is_bundled(key)]
    if bundled:
        return [(key if is_encoder(key) else None, rows) for key, rows in bundled]
    known = [key for key in state if is_encoder(key)]
    if known and len(known) <= MOST_ENCODERS:
        return [(key, state[key]) for key in known]
    return [(None, rows) for rows in state.values()] if len(state) == 1 else []


def _is_bundled(key: object) -> bool:
    if not isinstance(key, str) or not key.startswith(BUNDLED):
        return False
    return key.endswith(".string_to_param.*") or is_encoder(key.rsplit(".", 1)[1])


def plain(values: Tensor) -> Tensor:
    """A copy for safetensors: float32, on the CPU, contiguous."""
    return values.detach().to("cpu", torch.float32, copy=True).contiguous()


def to_text(values: Tensor) -> dict:
    """A tensor as JSON: its shape, and its numbers in base64 (float16 where they are so, else float32)."""
    kind, code = ("float16", "<f2") if values.dtype == torch.float16 else ("float32", "<f4")
    data = plain(values).numpy().astype(code).tobytes()
    return {"shape": list(values.shape), kind: base64.b64encode(data).decode("ascii")}


def from_text(data: dict) -> Tensor:
    """The tensor of `to_text`. Raises KeyError or ValueError for anything else."""
    half = "float16" in data
    numbers = base64.b64decode(data["float16" if half else "float32"], validate=True)
    values = np.frombuffer(numbers, dtype="<f2" if half else "<f4").astype(np.float16 if half else np.float32)
    return torch.from_numpy(values).reshape(data["shape"])


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    def select(names: list[str]) -> list[str]:
        names = list(filter(_is_bundled, names)) or names
        known = [name for name in names if is_encoder(name)]
        if len(names) > 1 and known:
            # The others are for encoders, or for outputs of them, that no prompt of ours uses.
            names = known
        if len(names) > MOST_ENCODERS and not _is_bundled(names[0]):
            raise InputError(
                f"'{path.name}' holds {len(names)} tensors, a sound token one to {MOST_ENCODERS}: choose an "
                "embedding, not a model."
            )
        return names

    try:
        return files.read_safetensors(path, select=select)
    except files.Unreadable as error:
        raise InputError(
            f"'{path.name}' is no readable safetensors file ({error}): it may be damaged, download or "
            "save it again."
        ) from error


class _ParameterDict:
    """In place of torch's class in a pickle: its state is kept, none of its code is run."""


def _read_torch(path: Path) -> object:
    files.check_pickle(path)
    try:
        size = path.stat().st_size
        if size > MOST or _unpacked(path) > size:
            raise InputError(
                f"'{path.name}' holds {max(size, _unpacked(path)) / 2**20:.0f} MB, more than an embedding "
                "has: choose an embedding, not a model."
            )
        allowed = [(_ParameterDict, "torch.nn.modules.container.ParameterDict")]
        with torch.serialization.safe_globals(allowed):
            return files.read_pickle(path)
    except Exception as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"'{path.name}' is damaged or holds more than plain tensors, and was not opened: take its "
            "safetensors version."
        ) from error


def _unpacked(path: Path) -> int:
    """The unpacked bytes of a zip file's members; 0 for other files. torch does not compress them."""
    if not zipfile.is_zipfile(path):
        return 0
    with zipfile.ZipFile(path) as file:
        return sum(part.file_size for part in file.infolist())
