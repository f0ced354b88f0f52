"""`python -m bench NAME [--json]`: each figure is a ratio against what a user would use instead, in one run
(memory's against a card's). `parity` compares with CAV-MAE's own code instead, `rivals` with that of the
encoders that the paper compares with, `template` with another version of the pack, `families` tries what
each family of picture models can do."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from aai.errors import InputError
from bench import (
    align,
    edit,
    edit_flux,
    families,
    fbank,
    film,
    library,
    memory,
    memory_transformers,
    parity,
    rivals,
    template,
    token,
    token_transformers,
)

BENCHES = {
    "align": align,
    "edit": edit,
    "families": families,
    "fbank": fbank,
    "film": film,
    "library": library,
    "memory": memory,
    "template": template,
    "token": token,
}

MODELS = {
    "edit": {"sd1": edit, "flux": edit_flux},
    "memory": {"sd1": memory, "transformers": memory_transformers},
    "token": {"sd1": token, "transformers": token_transformers},
}
"""What benches of several models are measured on; the first is the default."""


def interleaved(
    jobs: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """The median seconds of each job by `clock`; the jobs take turns, so a busy machine slows all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(repeats):
        for name, job in jobs.items():
            begin = clock()
            job()
            seconds[name].append(clock() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measured(name: str, model: str):
    """The module of a bench. Raises InputError for a model that it is not measured on."""
    models = MODELS.get(name, {"sd1": BENCHES.get(name)})
    if model not in models:
        raise InputError(f"`{name}` is not measured on {model}: give --model {' or '.join(models)}.")
    return models[model]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=sorted([*BENCHES, "parity", "rivals"]))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each job (%(default)s)")
    parser.add_argument(
        "--processor",
        action="store_true",
        help="measure the processor's time, of all threads, which other work on the machine changes little",
    )
    parser.add_argument(
        "--script", type=Path, metavar="FILE", help="token: diffusers' textual_inversion.py, to compare with"
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", metavar="N",
        help="edit: the pictures' sides in pixels (256 512 768; 512 1024 with --model flux); film: on Stable "
        "Diffusion 1.5's shape, in place of SoundWorld's",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=int, nargs="+", default=film.FRAMES, metavar="N",
        help="film: of how many frames the films are whose memory is measured (60 600)",
    )  # fmt: skip
    parser.add_argument(
        "--model",
        choices=["sd1", "flux", "transformers"],
        default="sd1",
        help="whose shape is measured (%(default)s; edit: or flux; memory and token: or transformers)",
    )
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="families: also write them as a table into a document"
    )
    parser.add_argument(
        "--checkout",
        type=Path,
        metavar="DIR",
        help="parity: a clone of YuanGongND/cav-mae, to compare with; rivals: a folder of their clones; "
        "template: a clone of another version of this pack",
    )
    options = parser.parse_args()
    torch.manual_seed(0)
    try:
        module = measured(options.name, options.model)
        given = {"script": options.script} if module is token else {}
        if options.name == "edit":
            given = {"sizes": options.sizes or module.SIZES}
        if options.name == "film":
            given = {"frames": options.frames, "sizes": options.sizes}
        if options.name == "parity":
            return parity.run(options.checkout, options.json)
        if options.name == "rivals":
            return rivals.run(options.checkout, options.json)
        if options.name == "template":
            given = {"checkout": options.checkout}
        clock = time.process_time if options.processor else time.perf_counter
        rows = module.rows(lambda jobs: interleaved(jobs, options.repeats, clock), **given)
        if options.name == "families" and options.into:
            families.write_table(rows, options.into)
    except InputError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        if "unit" not in row:
            print(f"{row['what']:30} {row['value']}")
            continue
        print(f"{row['what']:58} {row['value']:10.4g} {row['unit']:10} ratio {row['ratio']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
