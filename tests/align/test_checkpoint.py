"""A training's state on the disk: the same curve after a stop, and one sentence for what does not fit."""

import copy
import dataclasses
import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from aai.align.checkpoint import Checkpoint
from aai.align.settings import AlignSettings
from aai.align.train import align
from aai.errors import InputError


def test_a_diverged_training_goes_on_from_its_state_with_a_lower_rate(model, pairs, tmp_path):
    broken = dataclasses.replace(pairs, f_t=torch.full_like(pairs.f_t, torch.nan))
    dealt = iter([*[pairs] * 3, broken])
    settings = AlignSettings(steps=6, batch=8, rate=1e-2, warmup=1)
    kept, rates = Checkpoint(tmp_path / "state", 2), []
    with pytest.raises(InputError, match="step 4: lower the rate, and it goes on from its last state"):
        align(model, lambda *_: next(dealt), settings, checkpoint=kept)
    lower = dataclasses.replace(settings, rate=1e-3)
    curve = align(
        model, lambda *_: pairs, lower, lambda _, __, told: rates.append(told["rate"]), checkpoint=kept
    ).curve
    assert len(curve) == 6 and len(rates) == 4
    assert 0 < min(rates) and max(rates) < 1e-3 and rates == sorted(rates, reverse=True)


def test_a_state_from_before_there_were_schedules_goes_on(model, pairs, tmp_path):
    state = Checkpoint(tmp_path / "state", every=1)
    align(model, lambda *_: pairs, AlignSettings(steps=2, batch=8), checkpoint=state)
    with safe_open(str(state.path), "pt") as file:
        told, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    facts = json.loads(told["facts"])
    del facts["settings"]["schedule"]
    save_file(tensors, str(state.path), {**told, "facts": json.dumps(facts)})
    result = align(model, lambda *_: pairs, AlignSettings(steps=2, batch=8), checkpoint=state)
    assert len(result.curve) == 2
    with pytest.raises(InputError, match="schedule cosine, not paper"):
        align(model, lambda *_: pairs, AlignSettings(steps=2, batch=8, schedule="paper"), checkpoint=state)


class Shuffled:
    """Batches with a place of their own in the data."""

    def __init__(self, pairs):
        self.pairs, self.count = pairs, torch.zeros((), dtype=torch.int64)

    def __call__(self, generator, size):
        self.count = self.count + 1
        rows = torch.randperm(8, generator=generator)[:size].roll(int(self.count))
        kept = {k: getattr(self.pairs, k)[rows] for k in ("fbanks", "f_t", "f_v", "labels")}
        return dataclasses.replace(self.pairs, **kept)

    def state(self):
        return {"count": self.count}

    def restore(self, state):
        self.count = state["count"]


def test_a_stopped_training_goes_on_to_the_same_curve_and_weights(model, pairs, tmp_path):
    settings = AlignSettings(
        steps=12, batch=6, rate=1e-3, warmup=2, ramp_steps=4, keep=0.5, learn_tau=True, m=0.9
    )
    models = [copy.deepcopy(model) for _ in range(3)]
    quality = {4: 0.9, 8: 0.5, 12: 0.7}

    def run(model, name, stop=None):
        seen = []

        def callback(step, total, figures):
            seen.append(step)
            if step == stop:
                raise KeyboardInterrupt

        at = iter(step for step in (4, 8, 12) if step > (0 if name == "whole" or stop else 5))
        result = align(
            model, Shuffled(pairs), settings, callback, lambda _: quality[next(at)], 4,
            checkpoint=Checkpoint(tmp_path / name, every=5, about="these"),
        )  # fmt: skip
        return result, seen

    whole, _ = run(models[0], "whole")
    with pytest.raises(KeyboardInterrupt):
        run(models[1], "stopped", stop=7)
    again, seen = run(models[2], "stopped")
    assert seen[0] == 6
    assert again.curve == whole.curve and again.tau == whole.tau
    assert (again.step, again.measured) == (whole.step, whole.measured) == (4, 0.9)
    assert again.last == whole.last == 0.7
    for own, other in zip(models[2].parameters(), models[0].parameters()):
        assert torch.equal(own, other)
    finished, seen = run(copy.deepcopy(model), "stopped")
    assert finished.curve == whole.curve and finished.last == 0.7 and not seen
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped", "whole"]


def test_a_state_goes_on_only_with_what_it_was_begun_with(model, pairs, tmp_path):
    settings = AlignSettings(steps=2, batch=8)
    words = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    kept = Checkpoint(tmp_path / "state", 1, "these", words)
    align(copy.deepcopy(model), lambda *_: pairs, settings, checkpoint=kept)
    rounded, other_words = words * (1 + 1e-5), words.roll(1, 0)
    for other, about, f_t, says in (
        (dataclasses.replace(settings, tau=0.1), "these", words, "tau 0.05, not 0.1"),
        # Of a training that is done, another rate has no step to take.
        (dataclasses.replace(settings, rate=1.0), "these", words, "rate 5e-05, not 1.0"),
        (settings, "those", words, "other data"),
        (settings, "these", other_words, "another encoder, text encoder or other data"),
        (settings, "these", words[:1], "another encoder, text encoder or other data"),
    ):
        with pytest.raises(InputError, match=says):
            align(model, lambda *_: pairs, other, checkpoint=Checkpoint(kept.path, 1, about, f_t))
    # Another number of threads rounds otherwise.
    again = Checkpoint(kept.path, 1, "these", rounded)
    assert len(align(model, lambda *_: pairs, settings, checkpoint=again).curve) == 2
    for content in (b"", b"not a state" * 10):
        (tmp_path / "torn").write_bytes(content)
        with pytest.raises(InputError, match="torn.*training state"):
            align(model, lambda *_: pairs, settings, checkpoint=Checkpoint(tmp_path / "torn"))


def test_a_damaged_state_is_refused(model, pairs, tmp_path):
    settings = AlignSettings(steps=2, batch=8)
    kept = Checkpoint(tmp_path / "state", 1)
    align(copy.deepcopy(model), lambda *_: pairs, settings, checkpoint=kept)
    with safe_open(str(kept.path), "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    facts = json.loads(metadata["facts"])
    damaged = [
        (tensors, "[" * 100_000),
        (tensors, "null"),
        (tensors, json.dumps({**facts, "settings": 3})),
        (tensors, json.dumps({**facts, "best": "none"})),
        (tensors | {"curve": torch.zeros(3)}, metadata["facts"]),
        (tensors | {"parameter.0": torch.zeros(1, 2, 3)}, metadata["facts"]),
        (tensors | {"generator": torch.zeros(3, dtype=torch.uint8)}, metadata["facts"]),
        *(({k: v for k, v in tensors.items() if k != gone}, metadata["facts"])
          for gone in ("tau", "curve", "f_t", "parameter.0", "adam.0.step")),
    ]  # fmt: skip
    for content, stated in damaged:
        save_file(content, str(tmp_path / "odd"), {**metadata, "facts": stated})
        with pytest.raises(InputError, match="odd.*training state"):
            align(model, lambda *_: pairs, settings, checkpoint=Checkpoint(tmp_path / "odd", 1))


def test_a_disk_that_fills_up_leaves_the_last_state(model, pairs, tmp_path):
    resource = pytest.importorskip("resource")
    kept = Checkpoint(tmp_path / "state", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step, total, figures):
        if step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

    try:
        with pytest.raises(InputError, match="training's state cannot be saved"):
            align(model, lambda *_: pairs, AlignSettings(steps=4, batch=8), fill, checkpoint=kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    result = align(model, lambda *_: pairs, AlignSettings(steps=4, batch=8), checkpoint=kept)
    assert len(result.curve) == 4


def test_a_state_is_on_the_disk_before_it_takes_the_last_ones_place(model, pairs, tmp_path, monkeypatch):
    done, sync, move = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append(os.fstat(number).st_ino), sync(number)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("moved"), move(*paths)))
    kept = Checkpoint(tmp_path / "state", 1)
    align(model, lambda *_: pairs, AlignSettings(steps=1, batch=8), checkpoint=kept)
    assert done == [kept.path.stat().st_ino, "moved"]
