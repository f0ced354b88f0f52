"""Brings the recordings of `recordings.csv`: `python -m aai.soundworld.build.debian FOLDER`.

They are not the project's to ship: apt downloads their packages, which say whose they are. Two packages keep
their sounds in containers, Qt's resources (.rcc) and OpenTTD's (.cat); a name after "!" is a sound in one.
"""

from __future__ import annotations

import argparse
import csv
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError

LIST = Path(__file__).parent / "recordings.csv"


def recordings() -> list[dict[str, str]]:
    """The rows of the list: "package", "source" (a path in it) and "kind" (an event, or another kind)."""
    with LIST.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def bring(folder: Path) -> None:
    """Downloads every package that is not there yet, and writes `recordings.csv` with the sounds' paths.

    Raises InputError where apt fails, or a package no longer holds a sound.
    """
    rows = recordings()
    for package in sorted({row["package"] for row in rows}):
        place = folder / package
        if not place.exists():
            _unpack(package, place)
            print(package, flush=True)
    with (folder / "recordings.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("package", "path", "kind"))
        for number, row in enumerate(rows):
            path = _sound(folder / row["package"], row["source"], number)
            table.writerow((row["package"], path.relative_to(folder).as_posix(), row["kind"]))


def _unpack(package: str, place: Path) -> None:
    partly = place.with_name(f"{package}.part")
    partly.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", package], cwd=partly, check=True, stdout=sys.stderr)
        (archive,) = partly.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive.name, "."], cwd=partly, check=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise InputError(
            f"The package '{package}' cannot be brought ({error}): this needs Debian, and `apt-get "
            "update` first."
        ) from error
    archive.unlink()
    partly.rename(place)


def _sound(place: Path, source: str, number: int) -> Path:
    """The file of a sound; one in a container is written beside it."""
    name, _, inner = source.partition("!")
    path = place / name
    if not path.is_file():
        raise InputError(f"The package '{place.name}' has no '{name}': its version is another one.")
    if not inner:
        return path
    content = _of_cat(path, int(inner)) if path.suffix == ".cat" else _of_rcc(path, inner)
    taken = place / f"sound-{number}{Path(inner).suffix or '.wav'}"
    taken.write_bytes(content)
    return taken


def _of_cat(path: Path, index: int) -> bytes:
    """The sound of a number in OpenTTD's container: a table of offsets, each before a name and a wav."""
    data = path.read_bytes()
    (offset,) = struct.unpack_from("<I", data, 8 * index)
    begin = data.index(b"RIFF", offset & 0x7FFFFFFF)
    (size,) = struct.unpack_from("<I", data, begin + 4)
    return data[begin : begin + 8 + size]


def _of_rcc(path: Path, wanted: str) -> bytes:
    """The file of a name in a Qt resource: a tree of nodes, their names in UTF-16, their contents."""
    data = path.read_bytes()
    version, tree, contents, names = struct.unpack_from(">4I", data, 4)
    size = 14 if version < 2 else 22

    def walk(node: int, above: str) -> Iterator[tuple[str, int, int]]:
        at, flags = struct.unpack_from(">IH", data, tree + node * size)
        (length,) = struct.unpack_from(">H", data, names + at)
        name = data[names + at + 6 : names + at + 6 + 2 * length].decode("utf-16-be") if node else ""
        full = f"{above}/{name}".lstrip("/")
        if flags & 2:
            count, first = struct.unpack_from(">II", data, tree + node * size + 6)
            for child in range(first, first + count):
                yield from walk(child, full)
        else:
            yield full, flags, struct.unpack_from(">I", data, tree + node * size + 10)[0]

    for name, flags, offset in walk(0, ""):
        if name == wanted:
            (length,) = struct.unpack_from(">I", data, contents + offset)
            content = data[contents + offset + 4 : contents + offset + 4 + length]
            return zlib.decompress(content[4:]) if flags & 1 else content
    raise InputError(f"'{path.name}' holds no '{wanted}': the package's version is another one.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aai.soundworld.build.debian", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the packages are unpacked")
    try:
        bring(parser.parse_args().folder)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
