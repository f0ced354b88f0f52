"""An example: files, and what the product is to do with them."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

FOLDER, FIFO, LOOP = "folder", "fifo", "loop"
"""What may stand in a file's place: an empty folder, a pipe, a link that leads to itself."""


@dataclass(frozen=True)
class Example:
    """files: {path: content, or one of FOLDER, FIFO, LOOP}. action: the name of a function of
    `actions`, called with `arguments` in the folder of the files."""

    kind: str
    action: str
    arguments: dict = field(default_factory=dict)
    files: dict[str, bytes | str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes the files. What the disk cannot take, as a name that is too long, is left out."""
        for name, content in self.files.items():
            path = folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if content == FOLDER:
                    path.mkdir(exist_ok=True)
                elif content == FIFO:
                    os.mkfifo(path)
                elif content == LOOP:
                    path.symlink_to(path.name)
                else:
                    path.write_bytes(content)
            except (OSError, ValueError):
                continue

    @property
    def size(self) -> int:
        """How much there is to understand."""
        return len(repr(self.arguments)) + sum(len(content) for content in self.files.values())

    def to_json(self) -> str:
        content = asdict(self)
        content["files"] = {
            name: file if isinstance(file, str) else {"base64": base64.b64encode(file).decode()}
            for name, file in self.files.items()
        }
        return json.dumps(content, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Example:
        content = json.loads(text)
        content["files"] = {
            name: file if isinstance(file, str) else base64.b64decode(file["base64"])
            for name, file in content["files"].items()
        }
        return cls(**content)
