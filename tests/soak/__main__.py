"""What holds for an hour of use: prompts one after another, cancels and kills at any moment.

    python -m tests.soak --prompts 1000 --cancels 50 --kills 40

Queued prompts and cancels go to a ComfyUI server with this pack (where there is one), whose memory and open
files are counted; kills (SIGKILL) hit every command that writes, which is then run again and must end as one
that was never killed. Tables are printed and written to out/soak.json. Exits with 1 where something fails.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from .kills import COMMANDS, kill_all
from .prompts import cancel_some, queue_many


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=int, default=40, metavar="N", help="to queue (%(default)s)")
    parser.add_argument("--cancels", type=int, default=5, metavar="N", help="at any moment (%(default)s)")
    parser.add_argument("--kills", type=int, default=len(COMMANDS), metavar="N", help="in all (%(default)s)")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--seed", type=int, help="of the moments (a new one)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="the report's folder (%(default)s)")
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    moments, begin = random.Random(seed), time.monotonic()
    report: dict = {"seed": seed, "faults": []}
    with tempfile.TemporaryDirectory(prefix="aai-soak-") as folder:
        if options.prompts or options.cancels:
            server = queue_many(options.prompts, Path(folder) / "comfy", moments, report)
            if server:
                try:
                    cancel_some(server, options.cancels, moments, report)
                finally:
                    server.stop()
        if options.kills:
            kill_all(options.kills, options.commands, Path(folder) / "kills", moments, report)
    report["seconds"] = round(time.monotonic() - begin, 1)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "soak.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    for fault in report["faults"]:
        print(f"FAULT: {fault}")
    print(f"{len(report['faults'])} faults in {report['seconds']:.0f} s")
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
