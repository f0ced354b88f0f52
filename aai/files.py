"""Files that are whole or not there; names that every system takes; tensors in files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError, encodable, first_line, logger

if TYPE_CHECKING:
    from torch import Tensor

log = logger(__name__)

STALE = 3600.0
"""Seconds without a write after which an unfinished file is taken for abandoned."""
PAUSES = (0.05, 0.1, 0.2, 0.3, 0.4)
"""Seconds between attempts to put a file in its place."""
REPLACES_MAPPED = os.name != "nt"
"""Whether a file can be replaced while a process has it mapped."""

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}\.part", re.DOTALL)
_swept: dict[Path, float] = {}

DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{number}" for port in ("COM", "LPT") for number in "123456789¹²³"
}
"""What Windows takes for a device, with any ending."""


def is_file(path: str | os.PathLike) -> bool:
    """Whether there is such a file. Unlike Path.is_file it never raises: not for a path that is too long, a
    link to itself, or a folder above that may not be read."""
    return os.path.isfile(path)


def is_dir(path: str | os.PathLike) -> bool:
    """Whether there is such a folder; never raises, as `is_file`."""
    return os.path.isdir(path)


def walk(folder: str | os.PathLike) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder and in all below it and is no folder, by name, what is behind links included; it
    may be a pipe, or a link to nothing. Hidden files and folders are left out, and so, with a warning, are
    folders that cannot be read.

    Links to folders come last, so that what lies below by itself keeps its own path; no folder is visited
    twice, wherever links lead, nor is one that this folder lies in.
    """
    waiting: list[str | os.PathLike] = [folder]
    linked: list[str] = []
    visited = {_identity(above) for above in Path(os.path.realpath(folder)).parents}
    while waiting or linked:
        place = waiting.pop() if waiting else linked.pop(0)
        if (identity := _identity(place)) in visited:
            continue
        visited.add(identity)
        try:
            with os.scandir(place) as opened:
                entries = sorted((e for e in opened if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            log.warning("'%s' is passed over: it cannot be read (%s).", place, error.strerror)
            continue
        within = []
        for entry in entries:
            if not _is_folder(entry):
                yield entry
            elif entry.is_symlink():
                linked.append(entry.path)
            else:
                within.append(entry.path)
        waiting += reversed(within)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself.
        return False


def _identity(folder: str | os.PathLike) -> tuple[int, int] | str:
    """What a folder has by whatever path; some drives, as on networks, number nothing."""
    with contextlib.suppress(OSError):
        stat = os.stat(folder)
        if stat.st_ino:
            return stat.st_dev, stat.st_ino
    return os.path.normcase(os.path.realpath(folder))


def check_file(path: str | os.PathLike, name: object = None) -> None:
    """Raises InputError, which calls it `name`, for a path that is no file: missing, a folder, a pipe."""
    name = path if name is None else name
    if is_dir(path):
        raise InputError(f"'{name}' is a folder: name a file in it.")
    if os.path.exists(path) and not is_file(path):
        raise InputError(f"'{name}' is no file, but a device or a pipe: name a file.")
    if not is_file(path):
        raise InputError(f"There is no file '{name}': check its name and folder.")


def local(path: str | os.PathLike) -> str:
    """A path as ffmpeg takes it for nothing else: what stands before a colon in a relative one, as in
    2024-08-20T13:28:35Z.wav, would be a protocol."""
    return os.path.abspath(path)


_WEIGHTS = re.compile(r"(?:diffusion_pytorch_)?model(-\d+-of-\d+)?(?:\.(\w+?))?(-\d+-of-\d+)?\.safetensors")


def variants_of(model: str | os.PathLike, *parts: str) -> list[str | None]:
    """The variant ("fp16") of the safetensors in each of the folders `parts` of a model (`model_files`), in
    diffusers' and transformers' names; "." is its own. None where a folder holds plain ones, which they take
    without being told, or none."""
    found: dict[str, list[str | None]] = {part: [] for part in parts}
    for folder, name in map(os.path.split, model_files(model)):
        if match := _WEIGHTS.fullmatch(name):
            found.get(folder or ".", []).append(match[2])
    return [None if not variants or None in variants else variants[0] for variants in found.values()]


def model_files(model: str | os.PathLike) -> list[str]:
    """The paths, with /, of the files in a model's folder and in the folders in that, or in a repository of
    Hugging Face's hub by its name; without a network, those of it that were fetched before; [] for
    neither."""
    if not is_dir(model):
        return _hub_files(os.fspath(model))
    names = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(model):
            inner = os.listdir(entry.path) if entry.is_dir() else None
            names += [entry.name] if inner is None else [f"{entry.name}/{name}" for name in inner]
    return sorted(names)


def _hub_files(name: str) -> list[str]:
    # For cost; and neither is needed where models lie in folders.
    from huggingface_hub import model_info, try_to_load_from_cache

    # Whatever the hub raises, the loader that follows says what is wrong.
    with contextlib.suppress(Exception):
        return sorted(file.rfilename for file in model_info(name, timeout=10).siblings)
    for settings in ("model_index.json", "config.json"):
        with contextlib.suppress(ValueError):
            fetched = try_to_load_from_cache(name, settings)
            if isinstance(fetched, str):
                return model_files(os.path.dirname(fetched))
    return []


@contextlib.contextmanager
def writing(path: str | os.PathLike, what: str) -> Iterator[Path]:
    """Yields the path under which to write a file that is then put in its place in one move; an older file
    stays as it was until then, even where the power fails. A link stays a link: its target is written.
    The file gets a new file's permissions, whoever has written it.

    Raises InputError, which calls the file `what`, where it cannot be written, or where a folder or a device
    has its name.
    """
    from safetensors import SafetensorError

    path = Path(path)
    target = Path(os.path.realpath(path))
    # The beginning of the name: the whole of a long one would be too long with what is added.
    unfinished = target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex}.part")
    try:
        if target.exists() and not target.is_file():
            raise InputError(f"{what} cannot be saved as '{path}', which is no file: choose another name.")
        _sweep(target.parent)
        # safetensors would make a file that nobody else may read.
        with unfinished.open("xb") as file:
            mode = os.stat(file.fileno()).st_mode
        yield unfinished
        # A move may reach the disk before the content does: a power cut would leave an empty file.
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.chmod(mode)
        replace(unfinished, target)
    except SafetensorError as error:
        raise InputError(
            f"{what} cannot be saved as '{path}' ({error}): check the folder and the free space."
        ) from error
    except OSError as error:
        raise InputError(
            f"{what} cannot be saved as '{path}' ({error.strerror or error}): check the folder and the free "
            "space."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def replace(source: Path, target: Path) -> None:
    """`os.replace`, tried again for a second where it is refused: on Windows, whatever looks at each new file
    (a scanner for viruses, an indexer) holds it for a moment. Raises OSError as that does."""
    for pause in PAUSES:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(source, target)


def _sweep(folder: Path) -> None:
    """Removes what `writing` left unfinished in a folder where its process was killed."""
    now = time.time()
    if now - _swept.get(folder, -STALE) < STALE:
        return
    _swept[folder] = now
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not _UNFINISHED.fullmatch(entry.name):
                continue
            # Another process may be at it, or have put it in its place since.
            with contextlib.suppress(OSError):
                if entry.is_file(follow_symlinks=False) and now - entry.stat().st_mtime > STALE:
                    os.unlink(entry.path)


def stays_within(name: str) -> bool:
    """Whether a name, with / between folders, stays within its own folder on every system."""
    parts = name.split("/")
    return all(
        part not in ("", ".", "..")
        and not any(c in '<>:"|?*\\' or ord(c) < 32 for c in part)
        and not is_reserved(part)
        and encodable(part) == part
        and len(part.encode()) <= 200
        for part in parts
    )


def write(path: str | os.PathLike, content: bytes, what: str) -> None:
    """Writes a file in one move. Raises InputError as `writing` does."""
    with writing(path, what) as unfinished:
        unfinished.write_bytes(content)


def check_same_settings(path: str | os.PathLike, settings: Mapping[str, object]) -> None:
    """Keeps the settings of a study's results in a file beside them, or compares them with those kept there.

    Raises InputError where they differ: results would be mixed.
    """
    path, settings = Path(path), json.loads(json.dumps(dict(settings)))
    if not path.is_file():
        write(path, json.dumps(settings, indent=1).encode(), "The study's settings")
        return
    kept = json.loads(path.read_text(encoding="utf-8"))
    differs = [key for key in {**kept, **settings} if kept.get(key) != settings.get(key)]
    if differs:
        raise InputError(
            f"'{path.parent}' holds a study with another {differs[0]} ({kept.get(differs[0])}, not "
            f"{settings.get(differs[0])}): take the same, or another folder."
        )


def is_reserved(name: str) -> bool:
    """Whether Windows refuses or changes this name of a file or folder: a device's, with any ending, and one
    that ends in a dot or a space."""
    return name.partition(".")[0].rstrip(" ").upper() in DEVICES or name != name.rstrip(". ")


class Unreadable(ValueError):
    """Why a file cannot be read, in few words; the caller says which file that is and what to do."""


def read_safetensors(
    path: str | os.PathLike,
    *,
    mapped: bool = False,
    select: Callable[[list[str]], list[str]] = lambda names: names,
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, those that `select` keeps of their names, and its metadata.

    `mapped` tensors are read from the disk when they are used; until they are gone, Windows lets nobody
    replace the file. Others are copies. Numbers of eight bits with a point become float32. Raises Unreadable
    for a file that is missing or damaged, or holds numbers that torch stores but does not compute with.
    """
    from safetensors import SafetensorError, safe_open

    _check_plain(path)
    try:
        with _utf8_name(path) as name, safe_open(name, "pt") as file:
            tensors = {name: _computable(file.get_tensor(name)) for name in select(list(file.keys()))}
            metadata = file.metadata() or {}
    # NotImplementedError is torch's for numbers of four bits.
    except (SafetensorError, OSError, NotImplementedError) as error:
        raise Unreadable(first_line(error)[:120]) from error
    return (tensors if mapped else {name: value.clone() for name, value in tensors.items()}), metadata


def _computable(tensor: Tensor) -> Tensor:
    import torch

    plain = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool)
    if tensor.dtype in (*plain, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        return tensor
    if tensor.is_floating_point():
        return tensor.float()
    raise Unreadable(f"it holds numbers of the kind {str(tensor.dtype).removeprefix('torch.')}")


@contextlib.contextmanager
def _utf8_name(path: str | os.PathLike) -> Iterator[str]:
    """A name that safetensors opens a file by: its own, or, where that is not UTF-8, the open file's."""
    name = os.fspath(path)
    if encodable(name) == name:
        yield name
    else:
        with open(path, "rb") as file:
            yield f"/dev/fd/{file.fileno()}"


def metadata(path: str | os.PathLike) -> dict[str, str]:
    """The metadata of a safetensors file; {} for any other file."""
    try:
        return read_safetensors(path, mapped=True, select=lambda names: [])[1]
    except Unreadable:
        return {}


def write_safetensors(
    path: str | os.PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], what: str
) -> None:
    """Writes tensors, no two of which share memory, in one move. Raises InputError as `writing` does."""
    from safetensors.torch import save_file

    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with writing(path, what) as unfinished:
        save_file(tensors, str(unfinished), dict(metadata))


def check_pickle(path: str | os.PathLike) -> None:
    """Raises InputError where this torch may run a pickle's code, even when it is to take tensors alone
    (CVE-2025-32434, mended in 2.6)."""
    import torch

    if torch.torch_version.TorchVersion(torch.__version__) < (2, 6):
        raise InputError(
            f"'{Path(path).name}' is a pickle, which torch {torch.__version__} may run as a program: take "
            "its safetensors version, or torch 2.6 or newer."
        )


def read_pickle(path: str | os.PathLike, *, mapped: bool = False) -> object:
    """What a file of torch's holds, opened as tensors alone: none of its code is run.

    Raises InputError as `check_pickle` does, Unreadable for a file that is missing or damaged, or holds more.
    """
    import torch

    check_pickle(path)
    _check_plain(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    # What a damaged pickle makes torch raise depends on its bytes.
    except Exception as error:
        raise Unreadable(first_line(error)[:120]) from error


def read_weights(path: str | os.PathLike, *, mapped: bool = False) -> object:
    """What a file of weights holds: the tensors of a safetensors file, or a file of torch's as `read_pickle`
    opens it. Raises InputError and Unreadable as that does."""
    if Path(path).suffix.lower() == ".safetensors":
        return read_safetensors(path, mapped=mapped)[0]
    return read_pickle(path, mapped=mapped)


def read_text(path: str | os.PathLike, encoding: str = "utf-8") -> str:
    """The text of a file. Raises Unreadable for one that is missing, or holds bytes of another encoding."""
    _check_plain(path)
    try:
        return Path(path).read_text(encoding=encoding)
    except (OSError, ValueError) as error:
        raise Unreadable(first_line(error)[:120]) from error


def read_json(path: str | os.PathLike) -> object:
    """What a JSON file holds. Raises Unreadable as `read_text` does, and for text that is not JSON."""
    try:
        return json.loads(read_text(path))
    # Python's own limit, which a file of brackets alone reaches.
    except (ValueError, RecursionError) as error:
        raise Unreadable(first_line(error)[:120]) from error


def _check_plain(path: str | os.PathLike) -> None:
    # A pipe would be waited for without end.
    if os.path.exists(path) and not is_file(path):
        raise Unreadable("it is not a file")
