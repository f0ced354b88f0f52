import shutil
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from aai.align.evaluate import (
    clip_features,
    embed_sounds,
    label_accuracy,
    per_class,
    retrieval_tables,
)
from aai.align.features import encode
from aai.audio import save
from aai.data.clips import scan
from aai.metrics import retrieval


def test_long_queries_are_ranked_in_parts_alike():
    generator = torch.Generator().manual_seed(0)
    rows, gallery = torch.randn(1500, 4, generator=generator), torch.randn(1500, 4, generator=generator)
    scores = (
        torch.nn.functional.normalize(rows.double(), dim=-1)
        @ torch.nn.functional.normalize(gallery.double(), dim=-1).T
    )
    rank = (scores > scores.diag()[:, None]).sum(1) + 1
    assert retrieval(rows, gallery)["MedR"] == torch.quantile(rank.float(), 0.5)


def test_subsets_take_so_many_of_each_class_by_seed():
    labels = torch.tensor([0] * 12 + [1] * 3 + [2])
    rows = per_class(labels, 5)
    assert labels[rows].bincount().tolist() == [5, 3, 1]
    assert torch.equal(rows, per_class(labels, 5)) and not torch.equal(rows, per_class(labels, 5, seed=1))
    assert torch.equal(per_class(labels, None), torch.arange(16))


def test_tables_of_the_subsets_that_differ():
    labels = torch.arange(3).repeat_interleave(7)
    f_a = torch.eye(21)
    tables = retrieval_tables(f_a, f_a, None, labels)
    assert [(t["subset"], t["clips"], t["classes"]) for t in tables] == [("5 a class", 15, 3), ("all", 21, 3)]
    assert tables[0]["picture to sound"]["R@1"] == 1 and "sound to text" not in tables[0]
    f_t = torch.eye(21)[[0, 7, 14]]
    (*_, whole) = retrieval_tables(f_a, None, f_t, labels)
    # Each label is the very sound of one of its clips; the other clips are as far from all labels: ties.
    assert whole["text to sound"]["R@1"] == 1 and whole["sound to text"]["R@1"] == pytest.approx(3 / 21)


def test_a_picture_that_clips_share_is_one_target():
    labels = torch.arange(3).repeat_interleave(4)
    f_v, f_a = torch.eye(3), torch.eye(3)[labels]
    (table,) = retrieval_tables(f_a, f_v, None, labels, pictures=labels)
    assert (table["clips"], table["pictures"]) == (12, 3)
    assert table["sound to picture"]["R@1"] == table["picture to sound"]["R@1"] == 1
    # All sounds alike are no better than chance: ties count against them.
    (table,) = retrieval_tables(torch.eye(3)[[0] * 12], f_v, None, labels, pictures=labels)
    assert table["sound to picture"]["R@1"] == pytest.approx(1 / 3) and table["picture to sound"]["R@1"] == 0


def test_pictures_of_ones_own_are_measured_as_ever():
    generator = torch.Generator().manual_seed(0)
    f_a, f_v = torch.randn(21, 6, generator=generator), torch.randn(21, 6, generator=generator)
    labels = torch.arange(3).repeat_interleave(7)
    rows = per_class(labels, 5)
    tables = retrieval_tables(f_a, f_v, None, labels)
    assert tables[0]["sound to picture"] == retrieval(f_a[rows], f_v[rows])
    assert tables[0]["picture to sound"] == retrieval(f_v[rows], f_a[rows])
    assert tables == retrieval_tables(f_a, f_v, None, labels, pictures=torch.arange(21))


def test_subsets_are_the_same_clips_whatever_cannot_be_measured():
    labels = torch.arange(3).repeat_interleave(20)
    f_a = torch.eye(60)
    whole = torch.arange(60)
    kept = whole[whole != 7]
    (first, _, _), (second, _, _) = (
        retrieval_tables(f_a[rows], f_a[rows], None, labels[rows], kept=(labels, rows))
        for rows in (whole, kept)
    )
    drawn = per_class(labels, 5)
    assert first["clips"] == 15 and second["clips"] == 15 - int(7 in drawn)
    assert retrieval_tables(f_a, f_a, None, labels, kept=(labels, whole)) == retrieval_tables(
        f_a, f_a, None, labels
    )


def test_a_long_clip_is_measured_in_parts():
    """An hour of sound is hundreds of windows, too many for one pass."""
    sizes = []

    def audio_features(fbanks, keep):
        sizes.append(len(fbanks))
        return fbanks[:, 0, :2]

    model = SimpleNamespace(modality_a=torch.zeros(1), audio_features=audio_features)
    fbanks = torch.zeros(150, 1, 2)
    fbanks[:140, 0, 0], fbanks[140:, 0, 1] = 1, 1
    windows = [tuple(range(140)), tuple(range(140, 150))]
    features = SimpleNamespace(
        fbanks=fbanks, windows=windows, f_t=torch.eye(2), labels=torch.arange(2), frames=None
    )
    found = label_accuracy(model, features)
    assert (found.hits, found.count) == (2, 2) and sum(sizes) == 150 and max(sizes) <= 64


@pytest.mark.parametrize("padding", ["waveform", "fbank", "none"])
@pytest.mark.parametrize("kept", [False, True], ids=["memory", "store"])
def test_held_out_clips_are_measured_as_the_encoder_embeds_them(
    folder, make_encoder, tmp_path, tone, padding, kept
):
    """Sounds shorter than a window of 0.64 s, as long and longer."""
    data = Path(shutil.copytree(folder, tmp_path / "data"))
    for number, path in enumerate(sorted(data.rglob("[0-2].wav"))):
        save(tone(300 + 200 * number, 0.15 + 0.12 * number, number), path)
    encoder, clips = make_encoder(), scan(data)
    encoder.padding = padding
    with torch.no_grad():
        # An encoder that has learned where in time it hears.
        encoder.model.pos_embed_a += torch.randn(encoder.model.pos_embed_a.shape)
    features = encode(encoder, clips, store=tmp_path / "store" if kept else None)
    embedded = encoder.embed([clip.load_sound() for clip in clips])
    measured = torch.nn.functional.normalize(clip_features(encoder.model, features), dim=-1)
    torch.testing.assert_close(measured, embedded, rtol=0, atol=2e-3)
    some = torch.nn.functional.normalize(clip_features(encoder.model, features, [6, 1]), dim=-1)
    torch.testing.assert_close(some, measured[[6, 1]])


@pytest.mark.parametrize("padding", ["waveform", "fbank", "none"])
def test_recordings_are_let_go_as_they_are_heard(make_encoder, tone, padding):
    """Sixteen of three minutes at 48 kHz would be two gigabytes."""
    encoder = make_encoder()
    encoder.padding = padding
    alive, most = weakref.WeakSet(), 0

    def load(number):
        nonlocal most
        sound = tone(200 + 40 * number, 0.5 + 0.2 * (number % 7), number)
        alive.add(sound.waveform)
        most = max(most, len(alive))
        # Of another rate: what is kept is a sound of its own.
        return replace(sound, rate=24000)

    found = embed_sounds(encoder, [(str(number), partial(load, number)) for number in range(19)])
    assert most <= 3 and found.rows == list(range(19)) and not found.refusals
    assert torch.equal(found.features[:16], encoder.embed([load(number) for number in range(16)]))
    assert torch.equal(found.features[16:], encoder.embed([load(number) for number in range(16, 19)]))
