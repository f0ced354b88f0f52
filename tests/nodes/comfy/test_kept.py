"""What a film's samplings have drawn is kept until the film is joined, for the next run of the same graph."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch

GRAPH = {
    "1": {"class_type": "LoadLatent", "inputs": {"latent": "scene.latent"}},
    "2": {"class_type": "AAI_PromptToPromptEdit", "inputs": {"latent": ["1", 0], "scale": "1"}},
    "3": {"class_type": "KSampler", "inputs": {"model": ["2", 0], "latent_image": ["2", 2], "cfg": 4.0}},
    "4": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0]}},
    "5": {"class_type": "AAI_JoinFrames", "inputs": {"images": ["4", 0]}},
    "6": {"class_type": "SaveVideo", "inputs": {"video": ["5", 0], "filename_prefix": "film"}},
}


def changed(node: str, **inputs) -> dict:
    return {**GRAPH, node: {**GRAPH[node], "inputs": {**GRAPH[node]["inputs"], **inputs}}}


@pytest.fixture
def adapter(pack, rain):
    (key, rows), *_ = rain.vectors.items()
    return pack.part("aai.token").SoundToken(
        "rain", {key: rows}, rows[0] / rows[0].norm(), {key: rows}, {key: 0.4}
    )


@pytest.fixture
def timeline(pack, adapter):
    """Five different frames, and the source."""
    meter = pack.part("aai.meter").LoudnessMeter()
    f_a = torch.stack([adapter.f_a, -adapter.f_a])
    windows = pack.part("aai.inject.windows").SoundWindows(
        f_a, torch.zeros(2, dtype=torch.bool), torch.eye(2), torch.ones(2), 0.5, 0.25, 2.0, meter,
        ("rain", "fire"), "",
    )  # fmt: skip
    scale = np.array([0.0, 0.5, 1.0, 1.5, 0.5, 1.0])
    return pack.part("aai.inject.timeline").Timeline(
        4.0, ("",) * 6, np.array([0, 0, 0, 0, 1, 1]), f_a, np.zeros(6), scale, windows
    )


@pytest.fixture
def root(comfy, monkeypatch, tmp_path):
    import folder_paths

    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path))
    return tmp_path / "aai_films"


@pytest.fixture
def film(pack, small, adapter, timeline, root):
    """film(graph) -> the MODELs, CONDITIONINGs and LATENTs of its chunks of two frames."""

    def make(graph=GRAPH, node="2", **changes):
        given = dict(
            model=small.model, clip=small.clip, token=adapter, latent={"samples": torch.zeros(1, 32, 8, 8)},
            source_prompt="a city", edited_prompt="a city under *", scale="1", windows="as set below",
            cross_end=0.8, self_end=0.5, self_downscale=1, silence="full", timeline=timeline, chunk=2,
        )  # fmt: skip
        clone = hidden(pack.nodes["AAI_PromptToPromptEdit"], graph, node)
        with torch.inference_mode():
            return list(zip(*clone.EXECUTE_NORMALIZED(**{**given, **changes}).args))

    return make


def hidden(node, graph, number):
    """The node as core runs it in a graph, in its newer form and in the oldest that we support."""
    from comfy_api.latest import io

    given = {io.Hidden.prompt: graph, io.Hidden.unique_id: number}
    return node.PREPARE_CLASS_CLONE({"hidden_inputs": given, **given})


@pytest.fixture
def count(sampled):
    """count(model, positive, latent) -> the latents, and how often the model was called."""
    from comfy.patcher_extension import WrappersMP

    def draw(model, positive, latent, **settings):
        calls = []

        def counting(executor, *arguments, **named):
            calls.append(1)
            return executor(*arguments, **named)

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "count", counting)
        return sampled(model, positive, latent, **settings), len(calls)

    return draw


def test_a_stopped_film_resumes(film, count, root):
    first, second, third = film()
    drawn = [count(*first), count(*second)]
    assert all(calls > 0 for _, calls in drawn)
    # Here core is interrupted: a new run has new models.
    again = film()
    for (latents, _), chunk in zip(drawn, again):
        found, calls = count(*chunk)
        assert calls == 0 and torch.equal(found, latents)
    assert count(*again[2])[1] > 0 and count(*film()[2])[1] == 0
    # Five frames, and a source for each chunk, whose conditioning is another.
    assert len(list(root.rglob("*.safetensors"))) == 3 + 5


def test_what_a_frame_depends_on_is_drawn_anew(film, count, root, comfy):
    drawn, _ = count(*film()[0])
    assert count(*film()[0])[1] == 0
    for graph in (changed("3", cfg=5.0), changed("1", latent="other.latent"), changed("2", scale="1.0")):
        assert count(*film(graph)[0])[1] > 0
    # What stands behind the film does not count.
    assert count(*film(changed("6", filename_prefix="other"))[0])[1] == 0
    assert count(*film(source_prompt="a beach")[0])[1] > 0
    other = {"samples": torch.zeros(1, 32, 8, 8), "batch_index": [3]}
    found, calls = count(*film(latent=other)[0])
    assert calls > 0 and not torch.equal(found, drawn)
    assert count(*film()[0], scheduler="simple")[1] > 0
    path = comfy / "input" / "scene.latent"
    path.touch()
    assert count(*film()[0])[1] > 0 and count(*film()[0])[1] == 0
    os.utime(path, (1, 1))
    assert count(*film()[0])[1] > 0
    path.unlink()


def test_another_sampling_of_one_edit_is_drawn_for_itself(film, count, root):
    from comfy_extras.nodes_freelunch import FreeU

    def freed(strength):
        model, *rest = film()[0]
        free = FreeU.execute if hasattr(FreeU, "execute") else FreeU().patch
        (patched, *_) = getattr(given := free(model, strength, 1.2, 0.9, 0.2), "args", given)
        return patched, *rest

    drawn, _ = count(*film()[0])
    for settings in ({"cfg": 7.0}, {"sampler": "dpmpp_2m"}):
        found, calls = count(*film()[0], **settings)
        assert calls > 0 and not torch.equal(found, drawn), settings
        assert count(*film()[0], **settings)[1] == 0, settings
    for strength in (1.3, 1.1):
        assert count(*freed(strength))[1] > 0 and count(*freed(strength))[1] == 0


def test_a_joined_film_leaves_nothing(pack, film, count, pictures, timeline, root):
    chunks = [pictures(count(*chunk)[0]) for chunk in film()]
    assert list(root.rglob("*.safetensors"))
    join = hidden(pack.nodes["AAI_JoinFrames"], GRAPH, "5")
    images, _ = join.EXECUTE_NORMALIZED(images=chunks, timeline=[timeline]).args
    assert len(images) == 6 and not list(root.iterdir())


def test_a_film_that_was_never_joined_is_forgotten(film, count, root):
    count(*film()[0])
    (folder,) = root.iterdir()
    os.utime(folder, (1, 1))
    stranger = root / "stranger"
    stranger.mkdir()
    os.utime(stranger, (1, 1))
    film(changed("2", scale="1.0"))
    assert not folder.exists() and stranger.exists()


def test_a_disk_that_takes_nothing_stops_no_film(film, count, root, caplog):
    root.parent.mkdir(exist_ok=True)
    root.touch()
    assert count(*film()[0])[1] > 0
    assert "not kept while it is" in caplog.text
    root.unlink()
    first, second, _ = film()
    count(*first)
    (folder,) = root.iterdir()
    for path in folder.glob("*.safetensors"):
        path.write_bytes(b"half")
    # A part that was cut off is drawn again.
    assert count(*film()[0])[1] > 0 and count(*film()[0])[1] == 0
    shutil.rmtree(folder)


def test_without_a_graph_nothing_is_kept(film, count, root):
    for graph, node in ((None, None), (GRAPH, "9")):
        count(*film(graph, node)[0])
    assert not root.exists()


def test_another_heat_map_or_scale_is_sampled(pack, film, count, run, root):
    model, positive, latent = film()[0]
    count(model, positive, latent)
    louder = run("AAI_LoudnessReweight", model=model, conditioning=positive, tokens="", scale="2",
                 reference=-23.0)[0]  # fmt: skip
    assert count(louder, positive, latent)[1] > 0
