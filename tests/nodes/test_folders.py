"""ComfyUI's folders: what is offered of the input folder, and where a file of ours may go."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def folders(pack):
    return pack.part("nodes.folders")


@pytest.mark.skipif(os.name != "posix", reason="links may need rights here")
def test_a_link_that_leads_to_itself_hides_no_folder(folders, comfy):
    (comfy / "input" / "open").mkdir()
    (comfy / "input" / "loop").symlink_to("loop")
    try:
        assert "open" in folders.input_folders() and "loop" not in folders.input_folders()
    finally:
        (comfy / "input" / "loop").unlink()


def test_a_folder_below_another_is_one_and_a_file_is_none(pack, folders, comfy):
    (comfy / "input" / "outer" / "inner").mkdir(parents=True)
    (comfy / "input" / "outer" / "file.txt").touch()
    assert folders.check_input_folder("outer/inner") is True and folders.check_input_folder(None) is True
    assert folders.input_folder("outer/inner") == comfy / "input" / "outer" / "inner"
    for name in ("outer/file.txt", "outer/../outer", str(comfy / "input" / "outer"), "", "."):
        with pytest.raises(pack.part("aai.errors").InputError, match="There is no folder"):
            folders.input_folder(name)


def test_a_name_that_is_taken_gets_a_number(folders, comfy):
    def place(name: str, overwrite: bool = False):
        path = folders.place_of("embeddings", name, "a token", overwrite, lambda path: True)
        path.touch()
        return path.relative_to(comfy.resolve() / "models" / "embeddings").as_posix()

    assert [place("new/hail") for _ in range(3)] == [
        "new/hail.safetensors", "new/hail_2.safetensors", "new/hail_3.safetensors",
    ]  # fmt: skip
    assert place("new/hail.safetensors", overwrite=True) == "new/hail.safetensors"


def test_what_is_not_ours_is_not_replaced(pack, folders, comfy):
    (comfy / "models" / "embeddings" / "theirs.safetensors").touch()
    with pytest.raises(pack.part("aai.errors").InputError, match="'theirs.safetensors'.*not replaced"):
        folders.place_of("embeddings", "theirs", "a token", True, lambda path: False)


@pytest.mark.parametrize("name", ["", "../a", "/a", "a//b", "a:b", "a b"])
def test_a_name_that_no_file_can_have_is_refused(pack, folders, name):
    with pytest.raises(pack.part("aai.errors").InputError, match="cannot name a token"):
        folders.path_of("embeddings", name, "a token", forbidden=" ")


def test_a_digest_tells_listings_apart_and_names_no_file(folders):
    first, second = folders.digest([("rain.png", 1)]), folders.digest([("rain.png", 2)])
    assert first != second and first == folders.digest(iter([("rain.png", 1)])) and "rain" not in first


def test_a_name_that_windows_has_saved_is_found(pack, folders, comfy):
    (comfy / "models" / "embeddings" / "mine").mkdir()
    (comfy / "models" / "embeddings" / "mine" / "rain.safetensors").touch()
    found = folders.file_of("embeddings", "mine/rain.safetensors")
    assert found and os.path.samefile(folders.file_of("embeddings", "mine\\rain.safetensors"), found)
    assert folders.file_of("embeddings", "..\\rain.safetensors") is None
    encoders = pack.part("nodes.encoders")
    (comfy / "models" / encoders.KIND / "my" / "ears").mkdir(parents=True)
    assert encoders.find("my\\ears") == encoders.find("my/ears") is not None


@pytest.mark.skipif(os.name != "posix", reason="links may need rights here")
def test_a_change_behind_a_link_changes_a_datasets_stamp(pack, comfy, tmp_path):
    stamp = pack.part("nodes.datasets").stamp
    (comfy / "input" / "linking").mkdir()
    (comfy / "input" / "linking" / "rain").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "back").symlink_to(comfy / "input" / "linking", target_is_directory=True)
    stamps = [stamp("linking"), stamp("linking")]
    for name in ("1.wav", "2.wav"):
        (tmp_path / name).touch()
        stamps.append(stamp("linking"))
    assert stamps[0] == stamps[1] and len(set(stamps)) == 3
