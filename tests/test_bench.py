"""What the benches compare does the same."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from aai.encoders.cavmae import CAVMAE, CAVMAEConfig
from aai.errors import InputError
from bench import edit_flux, rivals, template
from bench.__main__ import interleaved
from bench.align import FORMS, TOWER, form_rows, step_rows
from bench.edit import step_jobs
from bench.film import chunk_jobs

ROOT = Path(__file__).parents[1]


def test_the_edit_by_maps_is_the_edit():
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 32, 64), layers_per_block=1, cross_attention_dim=768, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
    ).eval()  # fmt: skip
    made = []
    unet.register_forward_hook(lambda module, given, output: made.append(output.sample))
    for job in step_jobs(unet, 128).values():
        job()
    plain, edited, by_maps = made
    torch.testing.assert_close(by_maps, edited, rtol=0, atol=1e-5)
    torch.testing.assert_close(edited[0], plain[0], rtol=0, atol=1e-5)
    assert not torch.allclose(edited[1], plain[1], atol=1e-3)


def test_the_edit_on_fluxs_shape_leaves_its_source():
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        num_layers=1, num_single_layers=1, num_attention_heads=2, attention_head_dim=16,
        axes_dims_rope=(4, 6, 6), guidance_embeds=True,
    ).eval()  # fmt: skip
    made = []
    transformer.register_forward_hook(lambda module, given, output: made.append(output.sample))
    for job in edit_flux.step_jobs(transformer, 128).values():
        job()
    plain, *pairs = made
    assert len(pairs) == 3
    for pair in pairs:
        torch.testing.assert_close(pair[0], plain[0], rtol=0, atol=1e-5)
        assert not torch.allclose(pair[1], plain[1], atol=1e-4)
    assert not torch.allclose(pairs[0][1], pairs[2][1], atol=1e-4)


def test_the_films_chunk_is_a_source_and_its_frames():
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 32), layers_per_block=1, cross_attention_dim=768, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
    ).eval()  # fmt: skip
    made = []
    unet.register_forward_hook(lambda module, given, output: made.append(output.sample))
    for job in chunk_jobs(unet, 3).values():
        job()
    plain, frames = made
    assert len(plain) == 3 and len(frames) == 4
    torch.testing.assert_close(frames[0], plain[0], rtol=0, atol=1e-5)
    assert not torch.allclose(frames[1], frames[2], atol=1e-4)


def test_memory_is_what_a_job_holds_at_once():
    """In a process of its own: what earlier tests freed may go back to the system at any time."""
    code = "import torch; from bench.edit import largest_held; print(largest_held(lambda: torch.ones(2**25)))"
    measured = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, encoding="utf-8"
    )
    assert 120 < float(measured.stdout) < 150


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "CAV-MAE's own code is needed"),
        (("--checkout", "tests"), "'tests' does not hold CAV-MAE's own code"),
    ],
)
def test_parity_says_what_it_needs(arguments, says):
    command = [sys.executable, "-m", "bench", "parity", *arguments]
    # Others' encoding warnings, which the suite asks for, are no part of what it says.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONWARNDEFAULTENCODING"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 2 and not done.stdout
    assert says in done.stderr and "git clone" in done.stderr and done.stderr.count("\n") == 1


def test_a_steps_parts_are_all_of_it_and_change_the_model():
    config = CAVMAEConfig(dim=16, depth_a=1, depth_v=1, heads=2, frames=64, image_size=32)
    model = CAVMAE(config).requires_grad_(False)
    before = model.norm_a.weight.clone()

    def measure(jobs):
        for job in jobs.values():
            job()
        return {name: 0.5 if name == TOWER else 0.1 for name in jobs}

    rows = step_rows(measure, "a small", model, 2)
    (whole,) = [row for row in rows if "sum of its parts" in row["what"]]
    assert len(rows) == 8 and whole["value"] == pytest.approx(1.0) and whole["ratio"] == pytest.approx(2.0)
    # Of 2 clips, four parts take 0.8 s and two 0.2 s however many the clips are.
    assert rows[-1]["value"] == pytest.approx(16 * 0.8 + 0.2)
    assert rows[-1]["ratio"] == pytest.approx(13 / 8)
    assert all(parameter.grad is not None for parameter in model.audio_parameters())
    assert not torch.equal(model.norm_a.weight, before)


def test_a_steps_forms_hear_and_skip_what_they_say(monkeypatch):
    model = CAVMAE(CAVMAEConfig(dim=16, depth_a=1, depth_v=1, heads=2, frames=64, image_size=32))
    patches, heard, features = model.config.audio_tokens, {}, CAVMAE.audio_features

    def measure(jobs):
        for form, job in jobs.items():
            passes = heard[form] = []

            def recorded(own, fbanks, keep=None, passes=passes):
                passes.append((patches if keep is None else keep.shape[1], torch.is_autocast_enabled("cpu")))
                return features(own, fbanks, keep)

            monkeypatch.setattr(CAVMAE, "audio_features", recorded)
            job()
        return {name: 3.0 if name == "plain" else 1.5 for name in jobs}

    monkeypatch.setattr("bench.align.has_bfloat16", lambda device: False)
    assert len(form_rows(measure, "a small", model, 2)) == 4 and "in bf16" not in heard
    monkeypatch.setattr("bench.align.has_bfloat16", lambda device: True)
    rows = form_rows(measure, "a small", model, 2)
    assert len(rows) == len(FORMS)
    # The tower and the twin in a step, then the tower alone in the next.
    assert heard["plain"] == [(patches, False)] * 2 and heard["in bf16"] == [(patches, True)] * 2
    assert heard["half of the patches"] == [(patches // 2, False)] * 2
    assert heard["the twin every other step"] == [(patches, False)] * 3
    assert heard["all three, a quarter"] == [(patches // 4, True)] * 3
    assert [row["ratio"] for row in rows] == pytest.approx([1, 0.5, 0.5, 0.5, 0.25, 0.25])


def test_the_processors_time_is_without_the_wait():
    jobs = {"rests": lambda: time.sleep(0.2), "works": lambda: sum(range(200_000))}
    by_wall = interleaved(jobs, 1)
    by_processor = interleaved(jobs, 1, time.process_time)
    assert by_wall["rests"] >= 0.2 > 0.1 > by_processor["rests"]
    assert by_processor["works"] > 0


def test_rivals_need_clones(tmp_path):
    with pytest.raises(InputError, match="clone lyrebird-wav2clip, AudioCLIP, .* into one folder"):
        rivals.run(tmp_path, False)


def test_the_first_template_is_compared_with_a_clone_and_other_sounds(tmp_path, comfy_path):
    prompt = {"2": {"class_type": "AAI_LoadAudio", "inputs": {"audio": "thunder.wav", "start": 0.0}}}
    changed = template.with_sound(prompt, "fire.wav")
    assert changed["2"]["inputs"] == {"audio": "fire.wav", "start": 0.0}
    for checkout in (None, tmp_path):
        with pytest.raises(InputError, match="give a clone of one with --checkout DIR"):
            template.rows(None, checkout)


@pytest.mark.all
def test_the_first_template_runs_in_both(monkeypatch, comfy_path):
    monkeypatch.setattr(template, "SOUNDS", template.SOUNDS[:2])
    rows = template.rows(None, template.ROOT)
    assert [row["ratio"] for row in rows[:2]] == [1.0, 1.0] and len(rows) == 4
    assert all(row["value"] > 0 for row in rows)
