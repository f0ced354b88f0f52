"""Prepared clips as WebDataset shards: tar files in which a clip's members share the name before the first
dot. `clips.shard_clips` reads them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from .clips import Clip


def pack(clips: list[Clip], shard: Path) -> None:
    """Writes a tar of clips: `ID.flac`, `ID.0.jpg` ..., and `ID.json` with the label and the split.

    The same clips give the same bytes: no times, no owners. Raises OSError where the disk does not take it.
    """
    with tarfile.open(shard, "w", format=tarfile.GNU_FORMAT) as tar:
        for clip in clips:
            content = json.dumps({"label": clip.label, "split": clip.split}, ensure_ascii=False)
            _add(tar, f"{clip.id}.json", content.encode())
            _add(tar, clip.id + clip.sound.path.suffix, clip.sound.path.read_bytes())
            for number, file in enumerate(clip.pictures):
                _add(tar, f"{clip.id}.{number}{file.path.suffix}", file.path.read_bytes())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))
