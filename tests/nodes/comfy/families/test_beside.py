"""Edits and words' weights beside core's own caches, context windows and ControlNets."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch.testing import assert_close

from bench import tiny_models

NOTHING = dict(windows="as set below", cross_end=0.0, self_end=0.0)


def apart(a, b):
    return (a - b).abs().max().item()


@pytest.fixture
def words(run, tiny, token):
    """words(model, scale) -> a MODEL whose prompt has a weighed word, its CONDITIONING, and the CONDITIONING
    of the prompt without the word."""

    def make(model, scale):
        told, without = (
            run("AAI_SoundTokenConditioning", clip=tiny.clip, token=token, prompt=prompt)[0]
            for prompt in ("a photo of * in heavy rain", "a photo of * in rain")
        )
        given = dict(conditioning=told, tokens="heavy", scale=scale, reference=-23.0)
        return run("AAI_LoudnessReweight", model=model, **given)[0], told, without

    return make


def cached(model, threshold):
    """A MODEL with core's EasyCache, and what tells how many steps it has left out."""
    nodes_easycache = pytest.importorskip("comfy_extras.nodes_easycache")
    model = nodes_easycache.EasyCacheNode.execute(model, threshold, 0.0, 1.0, False)[0]
    return model


@pytest.fixture
def counted(tiny, monkeypatch):
    """counted(draw) -> how often drawing calls the transformer."""
    inner, calls = tiny.model.model.diffusion_model, []
    name = "_forward" if hasattr(inner, "_forward") else "forward"
    forward = getattr(inner, name)
    monkeypatch.setattr(inner, name, lambda *a, **k: calls.append(1) or forward(*a, **k))

    def count(draw):
        calls.clear()
        made = draw()
        return made, len(calls)

    return count


def test_easy_cache_leaves_out_steps_of_an_edit(family, edit, draw, counted):
    """What it leaves out it chooses by the whole batch, so that a source may be another than alone."""
    family("Flux.1", "Wan 2.x")
    model, positive, latent = edit(scale="0.5")
    plain, every = counted(lambda: draw(model, positive, latent, cfg=1.0))
    found, same = counted(lambda: draw(cached(model, 0.0), positive, latent, cfg=1.0))
    assert same == every and torch.equal(found, plain)
    found, few = counted(lambda: draw(cached(model, 3.0), positive, latent, cfg=1.0))
    assert 0 < few < every and found.isfinite().all() and apart(found[0], found[1]) > 1e-4
    model, positive, latent = edit(source_prompt="a photo of *", edited_prompt="a photo of *", scale="2")
    source, edited = draw(cached(model, 3.0), positive, latent, cfg=1.0)
    assert_close(edited, source, atol=2e-5, rtol=2e-5)


def test_easy_cache_leaves_out_steps_of_a_words_weight(family, tiny, words, draw, empty, counted):
    family("Flux.1", "Wan 2.x")
    model, told, without = words(tiny.model, "0")
    plain, every = counted(lambda: draw(model, told, empty(), cfg=1.0))
    found, same = counted(lambda: draw(cached(model, 0.0), told, empty(), cfg=1.0))
    assert same == every and torch.equal(found, plain)
    found, few = counted(lambda: draw(cached(model, 3.0), told, empty(), cfg=1.0))
    assert 0 < few < every
    from comfy_extras.nodes_easycache import EasyCacheHolder

    if "batch_slice" not in inspect.getsource(EasyCacheHolder.apply_cache_diff):
        pytest.skip("this ComfyUI's EasyCache adds what it keeps of one conditioning to all of a call's")
    absent = draw(cached(tiny.model, 3.0), without, empty(), cfg=1.0)
    assert apart(found, absent) < 1e-5 * max(1.0, absent.abs().max().item())


@pytest.mark.parametrize("freenoise", [False, True])
def test_context_windows(family, tiny, edit, words, draw, text, pack, freenoise):
    """Each window is edited as the whole film is: the source is the film alone, 0 the source or the prompt
    without the word, and 1 the prompt."""
    family("Wan 2.x", "LTX")
    nodes_windows = pytest.importorskip("comfy_extras.nodes_context_windows")
    execute = nodes_windows.ContextWindowsManualNode.execute
    known = "freenoise" in inspect.signature(execute).parameters
    if freenoise and not known:
        pytest.skip("this ComfyUI has no FreeNoise")
    shape = tiny.latents.shape[1:]
    film = {"samples": torch.zeros(1, shape[0], 5, *shape[2:])}

    def windowed(model):
        given = {"freenoise": freenoise} if known else {}
        return execute(model, 3, 1, "standard_static", 1, False, "pyramid", 2, **given)[0]

    plain = windowed(tiny.model)
    alone = draw(plain, text("a photo of a city"), film)
    model, positive, latent = edit(latent=film)
    source, edited = draw(windowed(model), positive, latent)
    assert_close(source[None], alone, atol=1e-5, rtol=1e-5)
    assert apart(source, edited) > 1e-3
    assert apart(draw(model, positive, latent)[0], source) > 1e-4
    model, positive, latent = edit(latent=film, blend_changes=True)
    with pytest.raises(pack.part("aai.errors").InputError, match="turn blend_changes off"):
        draw(windowed(model), positive, latent)
    model, positive, latent = edit(latent=film, scale="0", **NOTHING)
    source, silent = draw(windowed(model), positive, latent)
    assert_close(silent, source, atol=2e-5, rtol=2e-5)
    model, told, without = words(tiny.model, "0")
    absent = draw(plain, without, film)
    assert apart(draw(windowed(model), told, film), absent) < 1e-5 * max(1.0, absent.abs().max().item())
    assert apart(draw(plain, told, film), absent) > 1e-5


def flux_control(tiny):
    """A ControlNet of Flux.1's own class, of random weights."""
    import comfy.controlnet
    import comfy.ldm.flux.controlnet
    import comfy.ops

    config = {k: v for k, v in tiny_models.settings_of(tiny_models.FAMILIES["Flux.1"]).items()}
    network = comfy.ldm.flux.controlnet.ControlNetFlux(
        device="cpu", dtype=torch.float32, operations=comfy.ops.manual_cast, **config
    )
    tiny_models.randomize(network.requires_grad_(False), 4)
    return comfy.controlnet.ControlNet(
        network, load_device=torch.device("cpu"), manual_cast_dtype=None, extra_conds=["y", "guidance"]
    )


def test_a_controlnet_steers_edits_and_words(family, tiny, edit, words, draw, core, text, empty):
    family("Flux.1")
    control, hint = flux_control(tiny), torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(6))

    def steered(positive):
        with torch.inference_mode():
            return core.ControlNetApply().apply_controlnet(positive, control, hint, 0.5)[0]

    model, positive, latent = edit()
    source, edited = draw(model, steered(positive), latent)
    alone = draw(tiny.model, steered(text("a photo of a city")), empty())
    assert_close(source[None], alone, atol=1e-5, rtol=1e-5)
    assert apart(alone, draw(tiny.model, text("a photo of a city"), empty())) > 1e-3
    assert apart(source, edited) > 1e-3
    model, told, without = words(tiny.model, "1")
    whole = draw(tiny.model, steered(told), empty())
    assert_close(draw(model, steered(told), empty()), whole, atol=1e-6, rtol=1e-6)
    model, told, without = words(tiny.model, "0")
    assert apart(draw(model, steered(told), empty()), whole) > 1e-5


@pytest.mark.parametrize("strength, kind", [(1.0, "multiply"), (0.5, "attn_bias")])
def test_a_style_model_s_picture_stands_behind_weighed_words(
    family, tiny, words, draw, core, empty, strength, kind
):
    family("Flux.1")
    rows = torch.randn(1, 12, tiny_models.WIDTH, generator=torch.Generator().manual_seed(3))

    class Style:
        def get_cond(self, output):
            return rows.clone()

    def styled(positive):
        return core.StyleModelApply().apply_stylemodel(positive, Style(), None, strength, kind)[0]

    model, told, without = words(tiny.model, "0")
    absent = draw(tiny.model, styled(without), empty())
    assert apart(absent, draw(tiny.model, without, empty())) > 1e-3
    close = 1e-5 * max(1.0, absent.abs().max().item())
    assert apart(draw(model, styled(told), empty()), absent) < close
    assert apart(draw(tiny.model, styled(told), empty()), absent) > close
