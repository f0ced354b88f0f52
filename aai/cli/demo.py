"""`aai demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .outputs import check_folder
from .terminal import Commands, print_report, say


def add(commands: Commands) -> None:
    sub = commands.add("demo", demo, "turn ten sounds into pictures and show them on a page", "aai demo")
    sub.add_argument("-o", "--output", type=Path, default=Path("out/demo"), metavar="DIR", help="%(default)s")
    sub.add_argument(
        "--engine", choices=("auto", "comfyui", "diffusers"), default="auto", help="what draws (%(default)s)"
    )
    sub.add_argument("--serve", action="store_true", help="leave ComfyUI open on the example afterwards")


def demo(options: argparse.Namespace) -> None:
    from ..demo.run import run

    check_folder(options.output)
    report = run(options.output, engine=options.engine, serve=options.serve, say=say(options))
    shown = f"{options.output / 'index.html'}: {len(report['pictures'])} pictures through {report['engine']}"
    print_report(options, report, shown)
