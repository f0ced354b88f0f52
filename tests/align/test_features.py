"""Clips through the frozen towers, in memory and in a store."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from aai.align.batches import Batches
from aai.align.features import encode
from aai.audio import Sound, save
from aai.data.clips import scan
from aai.encoders.cavmae import pool
from aai.errors import InputError


def test_a_label_without_a_vector_is_refused_by_name(folder, make_encoder):
    with pytest.raises(InputError, match="low hum"):
        encode(make_encoder(), scan(folder), {"high whistle": torch.ones(16)})


def test_the_frozen_towers_see_what_the_encoder_sees(folder, features, make_encoder):
    encoder, clips = make_encoder(), scan(folder)
    assert len(features.f_v) == 4 and len(features.fbanks) == 6 * 1 + 2 * 3
    row = int(features.pictures[0][0])
    seen = encoder.embed_images(clips[0].load_picture(0)[None])[0]
    torch.testing.assert_close(features.f_v[row], seen)
    assert features.words == ["high whistle", "low hum"]
    torch.testing.assert_close(features.f_t, torch.eye(16)[[1, 0]])


def test_a_store_gives_what_memory_gives_and_makes_nothing_twice(
    folder, features, tmp_path, make_encoder, tiny
):
    encoder, clips = make_encoder(), scan(folder)
    # Pictures are known before their tokens are, and in another order.
    encode(encoder, clips[::-2], store=tmp_path)
    ticks = []
    for _ in range(2):
        kept = encode(encoder, clips, keep_tokens=True, store=tmp_path, callback=lambda i, n: ticks.append(i))
        for i in range(len(clips)):
            assert torch.equal(kept.fbanks[kept.windows[i]], features.fbanks[features.windows[i]].float())
            torch.testing.assert_close(kept.f_v[kept.pictures[i]], features.f_v[list(features.pictures[i])])
            ours, theirs = kept.tokens_v[kept.token_rows[i]], features.tokens_v[list(features.token_rows[i])]
            torch.testing.assert_close(ours, theirs.float(), rtol=1e-2, atol=1e-3)
    assert ticks and ticks[-1] == 8 and len(ticks) <= 8
    pairs = Batches(kept, tiny)(torch.Generator().manual_seed(0), 6)
    again = Batches(features, tiny)(torch.Generator().manual_seed(0), 6)
    torch.testing.assert_close(pairs.f_v, again.f_v)
    torch.testing.assert_close(pairs.tokens_v, again.tokens_v, rtol=1e-2, atol=1e-3)
    seen = pool(encoder.model.see(pairs.tokens_v)).detach()
    torch.testing.assert_close(torch.nn.functional.normalize(seen, dim=-1), pairs.f_v, rtol=0, atol=1e-3)
    # Other weights see otherwise, and hear the same.
    other = make_encoder()
    other.model.norm_v.weight.add_(1)
    encode(other, clips, store=tmp_path)
    assert len(list(tmp_path.glob("pictures-*"))) == 2 and len(list(tmp_path.glob("sounds-*"))) == 1


def test_a_store_keeps_the_paddings_apart(folder, tmp_path, make_encoder, tone, tiny):
    shutil.copytree(folder, tmp_path / "clips")
    for i, path in enumerate(sorted((tmp_path / "clips").rglob("*.wav"))):
        save(tone(300, 0.3 + 0.1 * i, i), path)
    clips = scan(tmp_path / "clips")
    encoders = {padding: make_encoder() for padding in ("waveform", "fbank")}
    stored = {}
    for padding in ("waveform", "fbank", "waveform"):
        encoders[padding].padding = padding
        stored[padding] = encode(encoders[padding], clips, store=tmp_path / "store")
    for padding, features in stored.items():
        encoder = encoders[padding]
        for clip, rows in zip(clips, features.windows):
            expected = encoder.fbanks(encoder.windows(clip.load_sound()))
            torch.testing.assert_close(features.fbanks[list(rows)], expected, rtol=1e-2, atol=1e-2)
    zeros = torch.full((tiny.mel_bins,), -tiny.fbank_mean / tiny.fbank_std)
    first = stored["fbank"].fbanks[[stored["fbank"].windows[0][0]]][0]
    torch.testing.assert_close(first[-1], zeros, rtol=0, atol=1e-3)
    assert len(list((tmp_path / "store").glob("sounds-*"))) == 2
    assert len(list((tmp_path / "store").glob("pictures-*"))) == 1


def test_clips_that_share_pictures_share_their_rows_and_each_file_is_looked_up_once(
    folder, tmp_path, make_encoder, monkeypatch
):
    encoder, clips = make_encoder(), scan(folder)
    encode(encoder, clips, store=tmp_path, keep_tokens=True, folder=folder)
    looked_up = Counter()
    stat = Path.stat

    def counted(path, **options):
        looked_up[path] += 1
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", counted)
    features = encode(encoder, clips, store=tmp_path, keep_tokens=True, folder=folder)
    pictures = [path for path in looked_up if path.suffix in (".png", ".jpg")]
    assert len(pictures) == 4 and {looked_up[path] for path in pictures} == {1}
    for rows in (features.pictures, features.token_rows):
        assert rows[1] is rows[2] is rows[3] and rows[0] is not rows[1]


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "store"])
def test_clips_without_anything_to_hear_are_left_out(folder, features, tmp_path, make_encoder, tone, kept):
    data = Path(shutil.copytree(folder, tmp_path / "data"))
    wave = tone(300, 0.64, 5).waveform
    for name, unheard in (("a", wave[:, :80]), ("b", torch.cat([wave, -wave])), ("c", 0 * wave)):
        save(Sound(unheard, 16000), data / "low_hum" / f"{name}.wav")
    for _ in range(2):
        found = encode(make_encoder(), scan(data), store=tmp_path / "store" if kept else None)
        assert [clip.sound.name for clip in found.left_out] == ["a.wav", "b.wav", "c.wav"]
        assert torch.equal(found.labels, features.labels) and len(found.pictures) == len(found.windows) == 8
        for ours, theirs in zip(found.windows, features.windows):
            assert torch.equal(found.fbanks[list(ours)].half(), features.fbanks[list(theirs)])
    for path in data.rglob("[0-3].wav"):
        path.unlink()
    save(Sound(0 * wave, 16000), data / "high_whistle" / "0.wav")
    with pytest.raises(InputError, match=r"None of the 4 clips from '.*high_whistle/0.wav' on can be heard"):
        encode(make_encoder(), scan(data))
