"""A film's pictures on disk: found by what they are made from, and by nothing else."""

import numpy as np
import pytest
import torch

from aai.errors import InputError
from aai.inject.frame_store import LOCK, MARK, FrameStore, check_free, is_ours


def test_a_picture_is_found_by_all_that_it_is_made_from(tmp_path, make_token):
    store = FrameStore(tmp_path / "parts", {"seed": 1})
    rain, other = make_token("rain"), make_token("rain", seed=1)
    paths = {
        store.path(0),
        store.path(1),
        store.path(0, 0.5, rain),
        store.path(1, 0.5, rain),
        store.path(0, 0.51, rain),
        store.path(0, 0.5, other),
        store.path(0, 0.5, rain, "safetensors"),
        FrameStore(tmp_path / "parts", {"seed": 2}).path(0, 0.5, rain),
    }
    assert len(paths) == 8 and (tmp_path / "parts" / MARK).exists()
    assert FrameStore(tmp_path / "parts", {"seed": 1}).path(0, 0.5, rain) in paths


def test_a_picture_comes_back_and_the_folder_goes(tmp_path):
    store = FrameStore(tmp_path / "parts", {})
    picture = torch.rand(3, 8, 6)
    store.save(picture, store.path(0))
    found = store.pixels(store.path(0))
    assert found.dtype == np.uint8 and found.shape == (8, 6, 3)
    assert abs(found / 255 - picture.permute(1, 2, 0).numpy()).max() < 0.01
    latents = torch.randn(4, 8, 6)
    path = store.path(0, kind="safetensors")
    store.save_latents(latents, path)
    assert torch.equal(store.latents(path), latents) and is_ours(store.folder)
    store.discard()
    assert not (tmp_path / "parts").exists() and not is_ours(store.folder)


def test_a_held_folder_goes_where_no_picture_came_into_it(tmp_path):
    store = FrameStore(tmp_path / "parts", {})
    with pytest.raises(KeyboardInterrupt), store.held():
        raise KeyboardInterrupt
    assert not store.folder.exists()
    store = FrameStore(tmp_path / "parts", {})
    with pytest.raises(KeyboardInterrupt), store.held():
        store.save(torch.rand(3, 8, 6), store.path(0))
        raise KeyboardInterrupt
    assert {path.name for path in store.folder.iterdir()} - {LOCK} == {MARK, store.path(0).name}
    with store.held(), pytest.raises(InputError, match="Another process draws the same film"):
        check_free(store.folder)
    check_free(store.folder)


def test_a_file_in_the_folders_place_gets_a_sentence(tmp_path):
    (tmp_path / "parts").touch()
    with pytest.raises(InputError, match="is a file"):
        FrameStore(tmp_path / "parts", {})
