"""Generated inputs for all that reads something: each must end in a result or in one sentence.

    python -m tests.fuzz 600                     examples in all; the seed is printed
    python -m tests.fuzz 600 --seed 7 --kinds sound token
    python -m tests.fuzz --replay out/fuzz/token-1.json

A table of kinds and outcomes is printed and written to out/fuzz.json; the smallest example of every fault is
kept in out/fuzz/, to be replayed. Exits with 1 where there is a fault.
"""

from __future__ import annotations

import os

# Before torch and numpy: a process that is to be forked has one thread.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import argparse  # noqa: E402
import json  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from collections import Counter  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402

from . import seeds  # noqa: E402
from .example import Example  # noqa: E402
from .kinds import KINDS, WEIGHTS  # noqa: E402
from .table import aligned  # noqa: E402
from .worker import OUTCOMES, RESULT, SENTENCE, Outcome, Watched  # noqa: E402

GRAPH = "graph"


@dataclass
class Report:
    """What the examples came to: counts by kind, and the smallest example of each fault."""

    counts: dict[str, Counter] = field(default_factory=dict)
    faults: dict[tuple[str, str, str], tuple[Example, Outcome, int]] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    tells: bool = False

    def add(self, example: Example, outcome: Outcome) -> None:
        kind = example.kind
        if self.tells:
            text = outcome.text.encode(errors="replace").decode().strip().split("\n")[-1]
            print(f"{kind} {example.action}: {outcome.kind}: {text[:150]}", flush=True)
        self.counts.setdefault(kind, Counter())[outcome.kind] += 1
        self.slowest[kind] = max(self.slowest.get(kind, 0.0), outcome.seconds)
        self.peak[kind] = max(self.peak.get(kind, 0), outcome.peak)
        if outcome.kind in (RESULT, SENTENCE):
            return
        key = (kind, outcome.kind, outcome.where)
        known = self.faults.get(key)
        if known is None:
            print(f"  {kind}: {outcome.kind}: {outcome.where}", flush=True)
        smaller = known is None or example.size < known[0].size
        kept = (example, outcome) if smaller else known[:2]
        self.faults[key] = (*kept, 1 + (known[2] if known else 0))

    def table(self) -> str:
        total = sum(self.counts.values(), Counter())
        rows = [["kind", "examples", *OUTCOMES, "slowest s", "peak MB"]]
        for kind, counts in self.counts.items():
            most = [f"{self.slowest[kind]:.1f}", self.peak[kind] >> 20]
            rows.append([kind, sum(counts.values()), *(counts[outcome] for outcome in OUTCOMES), *most])
        rows.append(["all", sum(total.values()), *(total[outcome] for outcome in OUTCOMES), "", ""])
        return aligned(rows)

    def write(self, out: Path, seed: int, seconds: float) -> None:
        """out/fuzz.json, and an example of each fault beside it."""
        folder = out / "fuzz"
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.json"):
            old.unlink()
        faults = []
        for number, ((kind, outcome, where), (example, smallest, count)) in enumerate(self.faults.items(), 1):
            file = folder / f"{kind.replace(' ', '_')}-{number}.json"
            file.write_text(example.to_json(), encoding="utf-8")
            faults.append(
                {
                    **{
                        "kind": kind,
                        "outcome": outcome,
                        "where": where,
                        "count": count,
                        "example": file.name,
                    },
                    **{"text": smallest.text.encode(errors="replace").decode(), "seconds": smallest.seconds},
                }
            )
        kinds = {kind: {o: counts[o] for o in OUTCOMES} for kind, counts in self.counts.items()}
        report = {"seed": seed, "seconds": round(seconds, 1), "kinds": kinds, "faults": faults}
        (out / "fuzz.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


def shares(examples: int, kinds: list[str]) -> dict[str, int]:
    """How many of the examples are of each kind."""
    weights = {kind: WEIGHTS.get(kind, 1) for kind in kinds}
    whole = sum(weights.values())
    return {kind: max(1, round(examples * weight / whole)) for kind, weight in weights.items()}


def run_kind(kind: str, count: int, start: int, watched: Watched, report: Report) -> None:
    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind]())
    def each(example: Example) -> None:
        report.add(example, watched.run(example))

    each()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("examples", type=int, nargs="?", default=600, help="in all (%(default)s)")
    parser.add_argument("--seed", type=int, help="the same seed, the same examples (a new one)")
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS, GRAPH], default=[*KINDS, GRAPH])
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="the folder of the report (%(default)s)"
    )
    parser.add_argument("--replay", type=Path, nargs="+", help="examples that were kept")
    parser.add_argument("--tell", action="store_true", help="print what every example came to")
    options = parser.parse_args()
    start = random.randrange(2**32) if options.seed is None else options.seed
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    begin = time.monotonic()
    report = Report(tells=options.tell)
    with tempfile.TemporaryDirectory(prefix="aai-fuzz-") as folder:
        watched = Watched(Path(folder) / "root")
        try:
            if options.replay:
                for path in options.replay:
                    example = Example.from_json(path.read_text(encoding="utf-8"))
                    outcome = watched.run(example)
                    print(f"{path}: {outcome.kind} {outcome.where}\n{outcome.text}")
                    report.add(example, outcome)
                return 1 if report.faults else 0
            print(
                f"seed {start}: `python -m tests.fuzz {options.examples} --seed {start}` repeats it",
                flush=True,
            )
            seeds.encoder(), seeds.model()
            for kind, count in shares(options.examples, options.kinds).items():
                if kind == GRAPH:
                    from .graphs import run_graphs

                    watched.stop()
                    run_graphs(count, start, Path(folder) / "comfy", report)
                else:
                    run_kind(kind, count, start, watched, report)
        finally:
            watched.stop()
            if not options.replay:
                print(report.table())
                report.write(options.out, start, time.monotonic() - begin)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
