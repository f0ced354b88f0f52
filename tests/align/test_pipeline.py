"""A folder of classes becomes batches, and batches an encoder that knows its classes."""

import math
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from aai import image
from aai.align.augment import Augment
from aai.align.batches import Batches
from aai.align.distributed import Distributed
from aai.align.evaluate import label_accuracy
from aai.align.features import encode
from aai.align.pipeline import align_encoder, hold_out
from aai.align.settings import AlignSettings
from aai.audio import Sound, save
from aai.data.clips import scan
from aai.encoders.cavmae import CAVMAE, CAVMAEConfig, pool
from aai.encoders.cavmae_encoder import CAVMAEEncoder
from aai.errors import InputError

TINY = CAVMAEConfig(
    dim=16, depth_a=1, depth_v=1, heads=2, mel_bins=32, frames=64, image_size=32, patch=16, seconds=0.64
)
COLOURS = {"low_hum": (200, 40, 40), "high_whistle": (40, 40, 200)}
PITCH = {"low_hum": 150, "high_whistle": 3000}


def tone(hertz, seconds, seed):
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(seconds * 16000)) / 16000
    wave = 0.3 * torch.sin(2 * math.pi * hertz * time) + 0.01 * torch.randn(len(time), generator=generator)
    return Sound(wave[None], 16000)


def make_encoder(**options):
    torch.manual_seed(0)
    model = CAVMAE(TINY, **options).requires_grad_(False)
    return CAVMAEEncoder(model, ["low hum", "high whistle", "wind"], torch.eye(16)[:3])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of four clips, two pictures each; clip 0 has a picture of its own, clip 3 is 1.6 s long."""
    folder = tmp_path_factory.mktemp("sounds")
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for i in range(4):
            save(tone(PITCH[name] * (1 + 0.1 * i), 1.6 if i == 3 else 0.64, i), folder / name / f"{i}.wav")
        Image.new("RGB", (40, 32), colour).save(folder / name / "view.png")
        Image.new("RGB", (20, 60), colour).save(folder / name / "0_first.jpg")
    (folder / "notes.txt").write_text("no class", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def examples(folder):
    return encode(make_encoder(), scan(folder), keep_tokens=True)


def test_clips_find_their_label_and_pictures(folder):
    clips = scan(folder)
    assert [clip.label for clip in clips] == ["high whistle"] * 4 + ["low hum"] * 4
    assert [path.name for path in clips[0].pictures] == ["0_first.jpg"]
    assert [path.name for path in clips[1].pictures] == ["0_first.jpg", "view.png"]


def test_held_out_clips_are_apart_and_every_class_keeps_one(folder):
    clips = scan(folder)
    train, held_out = hold_out(clips, 0.25)
    assert sorted(c.label for c in held_out) == ["high whistle", "low hum"]
    assert set(train).isdisjoint(held_out) and set(train) | set(held_out) == set(clips)
    train, _ = hold_out(clips, 1.0)
    assert len(train) == 2


def test_folders_that_teach_nothing_are_refused(folder, tmp_path):
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


def test_a_label_without_a_vector_is_refused_by_name(folder):
    with pytest.raises(InputError, match="low hum"):
        encode(make_encoder(), scan(folder), {"high whistle": torch.ones(16)})


def test_files_that_cannot_be_read_are_refused_by_name(folder, tmp_path):
    clips = scan(folder)
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    with pytest.raises(InputError, match="torn.jpg"):
        image.load(tmp_path / "torn.jpg")
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert torch.equal(image.load(tmp_path / "clear.png"), torch.ones(3, 4, 4))
    assert clips[0].load_picture(0).shape == (3, 60, 20)


def test_the_frozen_towers_see_what_the_encoder_sees(folder, examples):
    encoder, clips = make_encoder(), scan(folder)
    assert len(examples.f_v) == 4 and len(examples.fbanks) == 6 * 1 + 2 * 3
    row = int(examples.pictures[0][0])
    seen = encoder.embed_images(clips[0].load_picture(0)[None])[0]
    torch.testing.assert_close(examples.f_v[row], seen)
    assert examples.words == ["high whistle", "low hum"]
    torch.testing.assert_close(examples.f_t, torch.eye(16)[[1, 0]])


def test_a_store_gives_what_memory_gives_and_makes_nothing_twice(folder, examples, tmp_path):
    encoder, clips = make_encoder(), scan(folder)
    # Pictures are known before their tokens are, and in another order.
    encode(encoder, clips[::-2], store=tmp_path)
    ticks = []
    for _ in range(2):
        kept = encode(encoder, clips, keep_tokens=True, store=tmp_path, callback=lambda i, n: ticks.append(i))
        for i in range(len(clips)):
            assert torch.equal(kept.fbanks[kept.windows[i]], examples.fbanks[examples.windows[i]].float())
            torch.testing.assert_close(kept.f_v[kept.pictures[i]], examples.f_v[list(examples.pictures[i])])
            ours, theirs = kept.tokens_v[kept.token_rows[i]], examples.tokens_v[list(examples.token_rows[i])]
            torch.testing.assert_close(ours, theirs.float(), rtol=1e-2, atol=1e-3)
    assert ticks and ticks[-1] == 8 and len(ticks) <= 8
    pairs = Batches(kept, TINY)(torch.Generator().manual_seed(0), 6)
    again = Batches(examples, TINY)(torch.Generator().manual_seed(0), 6)
    torch.testing.assert_close(pairs.f_v, again.f_v)
    torch.testing.assert_close(pairs.tokens_v, again.tokens_v, rtol=1e-2, atol=1e-3)
    seen = pool(encoder.model.see(pairs.tokens_v)).detach()
    torch.testing.assert_close(torch.nn.functional.normalize(seen, dim=-1), pairs.f_v, rtol=0, atol=1e-3)
    # Other weights see otherwise, and hear the same.
    other = make_encoder()
    other.model.norm_v.weight.add_(1)
    encode(other, clips, store=tmp_path)
    assert len(list(tmp_path.glob("pictures-*"))) == 2 and len(list(tmp_path.glob("sounds-*"))) == 1


def test_every_clip_comes_once_an_epoch_and_ranks_share_a_batch(examples):
    alone, ranks = Batches(examples, TINY, Augment(noise=True)), [Distributed(i, 2) for i in range(2)]
    shared = [Batches(examples, TINY, Augment(noise=True), distributed=rank) for rank in ranks]
    drawn = []
    for _ in range(6):
        generators = [torch.Generator().manual_seed(5) for _ in range(3)]
        whole, *parts = (deal(g, 4) for deal, g in zip((alone, *shared), generators))
        for name in ("fbanks", "f_t", "f_v", "labels"):
            assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
        drawn.append(whole.labels)
    for epoch in range(3):
        labels = torch.cat(drawn[2 * epoch : 2 * epoch + 2])
        assert labels.bincount().tolist() == [4, 4]


def test_batches_go_on_from_where_they_were(examples):
    generator = torch.Generator().manual_seed(0)
    deal = Batches(examples, TINY, Augment(noise=True))
    deal(generator, 3)
    state = {key: value.clone() for key, value in deal.state().items()}
    expected = [deal(generator, size).fbanks for size in (3, 3, 2, 2)]
    again = Batches(examples, TINY, Augment(noise=True))
    again.restore(state)
    for size, fbanks in zip((3, 3, 2, 2), expected):
        assert torch.equal(again(generator, size).fbanks, fbanks)


def test_batches_pair_clips_with_what_belongs_to_them(examples):
    deal = Batches(examples, TINY)
    pairs = deal(torch.Generator().manual_seed(0), 6)
    assert pairs.fbanks.shape == (6, 64, 32) and pairs.tokens_v.shape == (6, 4, 16)
    owners = {int(row): i for i, rows in enumerate(examples.windows) for row in rows}
    drawn = []
    for fbank, f_t, f_v, label in zip(pairs.fbanks, pairs.f_t, pairs.f_v, pairs.labels):
        window = next(i for i, row in enumerate(examples.fbanks) if torch.equal(row.float(), fbank))
        clip = owners[window]
        drawn.append(clip)
        assert examples.labels[clip] == label
        assert torch.equal(f_t, examples.f_t[label])
        assert any(torch.equal(f_v, examples.f_v[row]) for row in examples.pictures[clip])
    assert len(set(drawn)) == 6
    assert len(deal(torch.Generator(), 100).labels) == 8


def test_gain_is_what_a_louder_recording_would_give(folder):
    """Up to 6 dB on the filter bank against the waveform at that level; unasked, nothing moves."""
    encoder = make_encoder()
    sound = tone(440, 0.64, 0)
    bank = encoder.fbanks(sound.waveform)
    still = Augment(hide=False)
    assert torch.equal(still(bank, TINY, torch.Generator()), bank)
    generator = torch.Generator().manual_seed(3)
    decibels = 6 * (2 * torch.rand((), generator=torch.Generator().manual_seed(3)).item() - 1)
    louder = Augment(hide=False, gain=6.0)(bank, TINY, generator)
    expected = encoder.fbanks(sound.waveform * 10 ** (decibels / 20))
    heard = slice(0, 60)
    torch.testing.assert_close(louder[:, heard], expected[:, heard], atol=1e-3, rtol=1e-3)
    noisy = Augment(hide=False, noise=True)(bank, TINY, torch.Generator().manual_seed(0))
    assert 0 < (noisy - bank).abs().max() <= 0.1


def test_an_encoder_learns_its_classes(folder):
    encoder, clips = make_encoder(), scan(folder)
    train, held_out = hold_out(clips, 0.25)
    examples, test = encode(encoder, train), encode(encoder, held_out)
    seen = encoder.embed_images(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert label_accuracy(encoder.model, test).value < 1
    settings = AlignSettings(steps=40, batch=6, rate=3e-3, warmup=5, multi_positive=True)
    result = align_encoder(encoder, examples, settings, Augment(noise=True), test, measure_every=10)
    assert result.measured == 1.0 and label_accuracy(encoder.model, test).value == 1.0
    assert encoder.labels == ["high whistle", "low hum"]
    again = encoder.embed_images(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(seen, again)


@pytest.mark.parametrize("learned", [False, True])
def test_a_stopped_encoder_has_the_temperature_that_it_was_trained_with(examples, learned):
    encoder, seen = make_encoder(), []
    settings = AlignSettings(steps=9, batch=6, rate=1e-2, warmup=1, tau=0.2, learn_tau=learned)

    def stop(step, total, figures):
        seen.append(figures["tau"])
        if step == 2:
            raise KeyboardInterrupt

    kept = []
    with pytest.raises(KeyboardInterrupt):
        align_encoder(encoder, examples, settings, callback=stop, on_stop=lambda _: kept.append(encoder.tau))
    assert kept == [encoder.tau] == seen[1:] and (encoder.tau != pytest.approx(0.2)) == learned


def test_the_shared_block_can_be_tuned_from_a_folder(examples):
    encoder = make_encoder(share_unified=True)
    settings = AlignSettings(steps=4, batch=6, rate=1e-2, warmup=1, momentum="literal_shared")
    curve = align_encoder(encoder, examples, settings).curve
    assert curve[-1]["l_t"] > 0


def test_a_class_that_is_only_held_out_is_refused(folder):
    encoder, clips = make_encoder(), scan(folder)
    whole = encode(encoder, clips)
    hum = encode(encoder, [clip for clip in clips if clip.label == "low hum"])
    with pytest.raises(InputError, match="high whistle"):
        align_encoder(encoder, hum, AlignSettings(steps=1), held_out=whole)


def test_a_long_clip_is_measured_in_parts():
    """An hour of sound is hundreds of windows, too many for one pass."""
    sizes = []

    def audio_features(fbanks):
        sizes.append(len(fbanks))
        return fbanks[:, 0, :2]

    model = SimpleNamespace(modality_a=torch.zeros(1), audio_features=audio_features)
    fbanks = torch.zeros(150, 1, 2)
    fbanks[:140, 0, 0], fbanks[140:, 0, 1] = 1, 1
    windows = [tuple(range(140)), tuple(range(140, 150))]
    examples = SimpleNamespace(fbanks=fbanks, windows=windows, f_t=torch.eye(2), labels=torch.arange(2))
    found = label_accuracy(model, examples)
    assert (found.hits, found.count) == (2, 2) and sum(sizes) == 150 and max(sizes) <= 64
