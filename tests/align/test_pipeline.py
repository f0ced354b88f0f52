"""Clips become features, and features an encoder that knows its classes."""

import re
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from aai import image
from aai.align.augment import Augment
from aai.align.checkpoint import Checkpoint
from aai.align.evaluate import label_accuracy
from aai.align.features import encode
from aai.align.pipeline import (
    AlignData,
    Callbacks,
    align_clips,
    align_encoder,
    copy_for,
    hold_out,
)
from aai.align.settings import AlignSettings
from aai.audio import save
from aai.data.clips import Clip, File, scan, splits_of, train_split
from aai.errors import InputError


def test_clips_find_their_label_and_pictures(folder):
    clips = scan(folder)
    assert [clip.label for clip in clips] == ["high whistle"] * 4 + ["low hum"] * 4
    assert [path.name for path in clips[0].pictures] == ["0_first.jpg"]
    assert [path.name for path in clips[1].pictures] == ["0_first.jpg", "view.png"]
    # Ten thousand sounds and as many pictures of a class are not a hundred million files.
    assert clips[1].pictures is clips[2].pictures is clips[3].pictures


def test_held_out_clips_are_apart_and_every_class_keeps_one(folder):
    clips = scan(folder)
    train, held_out = hold_out(clips, 0.25)
    assert sorted(c.label for c in held_out) == ["high whistle", "low hum"]
    assert set(train).isdisjoint(held_out) and set(train) | set(held_out) == set(clips)
    train, _ = hold_out(clips, 1.0)
    assert len(train) == 2


def named(label, *ids, split=""):
    return [Clip(f"{label}/{id}", label, File(Path(id)), (), split) for id in ids]


def recording(clip):
    return clip.id.split("/")[1].split("-")[0]


def test_a_recording_is_never_on_both_sides():
    """UrbanSound8K's slices; recording 3 has slices of two classes."""
    clips = [
        clip
        for label, kind in (("cat", 2), ("dog", 3))
        for n in range(20)
        for clip in named(label, *(f"{n if kind == 2 or n == 3 else 100 + n}-{kind}-0-{i}" for i in range(5)))
    ]
    train, held_out = hold_out(clips, 0.2)
    assert not {recording(clip) for clip in train} & {recording(clip) for clip in held_out}
    assert set(train) | set(held_out) == set(clips) and len(train) + len(held_out) == len(clips)
    assert Counter(clip.label for clip in held_out) == {"cat": 20, "dog": 20}
    assert (train, held_out) == hold_out(clips, 0.2) != hold_out(clips, 0.2, seed=1)


def test_recordings_of_unlike_sizes_come_near_to_the_share():
    clips = named("dog", *(f"{n}-3-0-{i}" for n in range(30) for i in range(1 + n % 7)))
    clips += named("cat", *(f"{n}-2-0-{i}" for n in range(100, 102) for i in range(10)))
    for seed in range(5):
        train, held_out = hold_out(clips, 0.2, seed)
        assert not {recording(clip) for clip in train} & {recording(clip) for clip in held_out}
        counts = Counter(clip.label for clip in held_out)
        # A half of the cats is farther from a fifth than none.
        assert abs(counts["dog"] - 0.2 * 115) <= 3 and counts["cat"] == 0
        assert len({recording(clip) for clip in train if clip.label == "dog"}) > 15


def test_whole_folds_are_held_out():
    clips = [
        clip
        for fold in range(1, 11)
        for label in ("cat", "dog")
        for clip in named(label, *map(str, range(4)), split=f"fold{fold}")
    ]
    train, held_out = hold_out(clips, 0.2)
    assert len({clip.split for clip in held_out}) == 2 and len(held_out) == 16
    assert not {clip.split for clip in train} & {clip.split for clip in held_out}


def test_clips_that_are_their_own_groups_are_held_out_as_ever():
    """A training that was stopped goes on with the same clips: what 0.1.0 held out."""
    clips = named("dog", *map(str, range(9))) + named("cat", *map(str, range(6)))
    _, held_out = hold_out(clips, 0.3, 5)
    assert [clip.id for clip in held_out] == ["cat/0", "cat/5", "dog/1", "dog/5", "dog/7"]


def test_folders_that_teach_nothing_are_refused(folder, tmp_path, tone):
    with pytest.raises(InputError, match="nowhere"):
        scan(tmp_path / "nowhere")
    with pytest.raises(InputError, match="0 classes"):
        scan(tmp_path)
    (tmp_path / "rain").mkdir()
    save(tone(200, 0.64, 0), tmp_path / "rain" / "1.wav")
    with pytest.raises(InputError, match="rain.*no pictures"):
        scan(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "rain" / "1.png")
    with pytest.raises(InputError, match="1 classes"):
        scan(tmp_path)


def test_files_that_cannot_be_read_are_refused_by_name(folder, tmp_path):
    clips = scan(folder)
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    with pytest.raises(InputError, match="torn.jpg"):
        image.load(tmp_path / "torn.jpg")
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert torch.equal(image.load(tmp_path / "clear.png"), torch.ones(3, 4, 4))
    assert clips[0].load_picture(0).shape == (3, 60, 20)


def test_an_encoder_learns_its_classes(folder, make_encoder):
    encoder, clips = make_encoder(), scan(folder)
    train, held_out = hold_out(clips, 0.25)
    features, test = encode(encoder, train), encode(encoder, held_out)
    seen = encoder.embed_images(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert label_accuracy(encoder.model, test).value < 1
    settings = AlignSettings(steps=40, batch=6, rate=3e-3, warmup=5, multi_positive=True)
    result = align_encoder(encoder, features, settings, Augment(noise=True), test, measure_every=10)
    assert result.measured == 1.0 and label_accuracy(encoder.model, test).value == 1.0
    assert encoder.labels == ["high whistle", "low hum"]
    again = encoder.embed_images(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(seen, again)


@pytest.mark.parametrize("learned", [False, True])
def test_a_stopped_encoder_has_the_temperature_that_it_was_trained_with(features, learned, make_encoder):
    encoder, seen = make_encoder(), []
    settings = AlignSettings(steps=9, batch=6, rate=1e-2, warmup=1, tau=0.2, learn_tau=learned)

    def stop(step, total, figures):
        seen.append(figures["tau"])
        if step == 2:
            raise KeyboardInterrupt

    kept = []
    with pytest.raises(KeyboardInterrupt):
        align_encoder(encoder, features, settings, callback=stop, on_stop=lambda _: kept.append(encoder.tau))
    assert kept == [encoder.tau] == seen[1:] and (encoder.tau != pytest.approx(0.2)) == learned


def test_the_shared_block_can_be_tuned_from_a_folder(features, make_encoder):
    encoder = make_encoder(share_unified=True)
    settings = AlignSettings(steps=4, batch=6, rate=1e-2, warmup=1, momentum="literal_shared")
    curve = align_encoder(encoder, features, settings).curve
    assert curve[-1]["l_t"] > 0


def test_a_class_that_is_only_held_out_is_refused(folder, make_encoder):
    encoder, clips = make_encoder(), scan(folder)
    whole = encode(encoder, clips)
    hum = encode(encoder, [clip for clip in clips if clip.label == "low hum"])
    with pytest.raises(InputError, match="high whistle"):
        align_encoder(encoder, hum, AlignSettings(steps=1), held_out=whole)


class Words:
    """A text encoder with an axis for each of the folder's labels."""

    name, dim = "words", 16

    def embed(self, texts):
        return torch.eye(16)[[("low hum", "high whistle").index(text) for text in texts]]


SETTINGS = AlignSettings(steps=40, batch=6, rate=3e-3, warmup=5, multi_positive=True)


def test_one_call_takes_clips_to_an_encoder(folder, make_encoder):
    start = make_encoder()
    before = [parameter.clone() for parameter in start.model.parameters()]
    encoder = copy_for(start, Words(), "tuned", {"made_by": "a test"})
    encoded, steps = [], []
    callbacks = Callbacks(lambda *done: encoded.append(done), lambda step, *_: steps.append(step))
    data = AlignData(*hold_out(scan(folder), 0.25), Words(), compare=True)
    report = align_clips(encoder, data, SETTINGS, Augment.named("noise"), callbacks)
    assert encoded == [(i, 8) for i in range(1, 9)] and steps == list(range(1, 41))
    assert report.before.value < 1 == report.after.value and report.after.count == report.held_out == 2
    assert report.result.step <= 40 == len(report.losses)
    assert report.last.hits <= 2 == report.last.count
    assert str(report) == (
        "40 steps on 6 clips of 2 labels; held-out clips named right: "
        f"{report.before.hits} of 2 before, 2 after step {report.result.step}, which was chosen on them, "
        f"{report.last.hits} after the last"
    )
    assert (encoder.space, encoder.labels) == ("words", ["high whistle", "low hum"])
    assert (encoder.notes["made_by"], encoder.notes["start"]) == ("a test", start.name)
    assert all(map(torch.equal, start.model.parameters(), before)) and start.labels[2:] == ["wind"]


def test_clips_without_anything_to_hear_are_counted_and_named(folder, make_encoder, tmp_path, tone):
    data = Path(shutil.copytree(folder, tmp_path / "data"))
    for label in ("low_hum", "high_whistle"):
        save(tone(300, 0.005, 5), data / label / "blip.wav")
    clips, told = scan(data), []
    blips = [clip for clip in clips if clip.sound.name == "blip.wav"]
    train = [clip for clip in clips if clip.sound.name in ("0.wav", "1.wav", "2.wav")] + blips[1:]
    held_out = [clip for clip in clips if clip.sound.name == "3.wav"] + blips[:1]
    report = align_clips(
        make_encoder(),
        AlignData(train, held_out, Words()),
        AlignSettings(steps=2, batch=6),
        callbacks=Callbacks(encoded=lambda *said: told.append(said)),
    )
    assert (report.clips, report.held_out, report.left_out) == (6, 2, (blips[1], blips[0]))
    note = f"2 of 10 clips left out, .* the first is '{re.escape(str(blips[1].sound))}'"
    assert told[0][0] == 2 and re.match(note, told[0][1]) and told[0][1] in str(report)


def test_a_copy_keeps_its_starts_padding(make_encoder):
    start = make_encoder()
    for padding in ("waveform", "fbank"):
        start.padding = padding
        assert copy_for(start, Words(), "tuned").padding == padding


def test_a_checkpoint_resumes_only_the_same_data(folder, make_encoder, tmp_path):
    clips, settings = scan(folder), AlignSettings(steps=4, batch=4)
    checkpoint = Checkpoint(tmp_path / "state", every=1, restart="--anew")

    def train(clips, held_out=(), stop=None, augment=None, folder=folder):
        def step(step, total, figures):
            if step == stop:
                raise KeyboardInterrupt

        data = AlignData(list(clips), list(held_out), tower=Words(), folder=folder)
        options = dict(store=tmp_path / "store", checkpoint=checkpoint)
        return align_clips(make_encoder(), data, settings, augment, Callbacks(step=step), **options)

    sides = clips[:3] + clips[4:7], [clips[3], clips[7]]
    with pytest.raises(KeyboardInterrupt):
        train(*sides, stop=2)
    swapped = [clips[3], *clips[1:3], *clips[4:7]], [clips[0], clips[7]]
    for other, augment in (((clips[:3] + clips[4:6], sides[1]), None), (swapped, None), (sides, "hide")):
        with pytest.raises(InputError, match=r"other data: go on with the same, or begin anew \(--anew\)"):
            train(*other, augment=augment and Augment.named(augment))
    losses = train(*sides).losses
    checkpoint.path.unlink()
    assert losses == train(*sides).losses


@pytest.mark.parametrize("other", ["low_hum/1.wav", "low_hum/3.wav", "low_hum/view.png", "low_hum/1_new.png"])
def test_a_checkpoint_does_not_resume_with_other_files_of_the_same_names(
    folder, make_encoder, tmp_path, tone, other
):
    data = Path(shutil.copytree(folder, tmp_path / "data"))

    def train(folder, stop=None):
        def step(step, total, figures):
            if step == stop:
                raise KeyboardInterrupt

        clips = scan(folder)
        held_out = [clips[3], clips[7]]
        sides = AlignData(clips[:3] + clips[4:7], held_out, tower=Words(), folder=folder)
        options = dict(store=tmp_path / "store", checkpoint=Checkpoint(tmp_path / "state", every=1))
        return align_clips(
            make_encoder(), sides, AlignSettings(steps=3, batch=6), None, Callbacks(step=step), **options
        )

    with pytest.raises(KeyboardInterrupt):
        train(data, stop=2)
    copied = Path(shutil.copytree(data, tmp_path / "copied"))
    if other.endswith(".wav"):
        save(tone(900, 0.7, 1), data / other)
    else:
        Image.new("RGB", (9, 9), "green").save(data / other)
    with pytest.raises(InputError, match="other data"):
        train(data)
    assert len(train(copied).losses) == 3


def test_only_a_cavmae_of_the_text_encoders_width_is_tuned(make_encoder):
    with pytest.raises(InputError, match="gives 16 numbers, but the text encoder words has vectors of 8"):
        copy_for(make_encoder(), SimpleNamespace(name="words", dim=8), "x")
    with pytest.raises(InputError, match="'CLAP' is no CAV-MAE"):
        copy_for(SimpleNamespace(name="CLAP", dim=16), Words(), "x")


def test_the_train_split_is_chosen_where_there_are_others(folder):
    from dataclasses import replace

    clips = scan(folder)
    train = [replace(clip, split="train") for clip in clips[::2]]
    assert train_split(clips) == clips and train_split(train) == train
    assert train_split([*train, *(replace(clip, split="test") for clip in clips[1::2])]) == train
    # What `aai eval` would measure on is not trained on, whatever the sets call their splits.
    for splits, trained in (
        (("dev", "eval"), "dev"),
        (("", "test"), ""),
        (("val", "test"), "val"),
        (("test", "eval"), "eval"),
        (("fold1", "fold2"), None),
    ):
        mixed = [replace(clip, split=splits[i % 2]) for i, clip in enumerate(clips)]
        assert train_split(mixed) == [c for c in mixed if trained in (None, c.split)]
    assert splits_of(train) == "'train'" and splits_of(clips) == "none"
    assert hold_out(clips, 0) == (clips, [])
