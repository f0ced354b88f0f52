"""A picture's way into noise, and edits that follow it."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from aai.errors import InputError
from aai.inject.edit import Edit, encode, sweep
from aai.inject.film import Shot, chunk_edit
from aai.inject.invert import Trajectory, invert, load, null_text, reduced
from aai.picture.diffusers import DiffusersPictureModel
from aai.picture.model import Conditioning
from aai.picture.schedule import normal, timestep
from aai.prompt import Prompt
from aai.soundworld.loaders import load_picture_model
from aai.soundworld.pictures import render


@pytest.fixture(params=["epsilon", "v_prediction"])
def model(make_parts, request):
    return DiffusersPictureModel(**vars(make_parts(prediction_type=request.param)))


@pytest.fixture
def latents():
    return 0.5 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def test_the_way_between_and_beyond_its_points():
    trajectory = Trajectory(
        torch.tensor([4.0, 1.0, 0.0]), torch.tensor([40.0, 10.0, 2.0])[:, None, None, None]
    )
    found = [trajectory.at(sigma).item() for sigma in (0.0, 0.5, 1.0, 2.5, 4.0, 8.0)]
    assert found == pytest.approx([2, 6, 10, 25, 40, 78])


class StandardNormal:
    """The ideal model of latents that are standard normal: its ways are known, x(sigma) = x(0) sqrt(1 +
    sigma^2)."""

    sigmas = torch.logspace(-1.5, 1.2, 1000)
    fingerprint = "ideal"

    def predict_noise(self, latents, t, cond):
        sigma = self.sigmas[t][:, None, None, None]
        return latents * sigma / (1 + sigma**2).sqrt()


def test_the_way_is_that_of_the_ideal_model(latents):
    steps = []
    trajectory = invert(StandardNormal(), latents, None, 200, lambda step, total: steps.append((step, total)))
    assert steps[-1] == (200, 200) and trajectory.latents.shape == (201, 4, 8, 8)
    assert torch.equal(trajectory.clean, latents[0])
    expected = latents * (1 + trajectory.sigmas**2).sqrt()[:, None, None, None]
    assert_close(trajectory.latents, expected, rtol=0.07, atol=1e-3)


def test_a_single_step_goes_all_the_way(latents):
    trajectory = invert(StandardNormal(), latents, None, 1)
    assert_close(trajectory.sigmas, torch.tensor([StandardNormal.sigmas[-1], 0.0]))
    # As far away as the noise is that the model starts from: not a few times as far.
    end = trajectory.at(float(StandardNormal.sigmas[-1])).std() / latents.std()
    assert 0.9 < end / (1 + StandardNormal.sigmas[-1] ** 2).sqrt() < 1.1


def reference_way(model, latents, cond, steps):
    """DDIM inversion as published (Mokady et al. 2023; google/prompt-to-prompt's `ddim_loop`), on latents
    of unit variance: the noise is predicted at the timestep that the step goes to, from latents that stand
    `1000 // steps` timesteps earlier."""
    alphas, stride, x = model.alphas_cumprod, 1000 // steps, latents
    for t in range(0, stride * steps, stride):
        noise = model.predict_noise(x, torch.tensor([t]), cond)
        alpha, following = alphas[max(t - stride, 0)], alphas[t]
        clean = (x - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        x = following.sqrt() * clean + (1 - following).sqrt() * noise
    return x


def reference_picture(model, x, cond, steps):
    """DDIM back from there (`prev_step`)."""
    alphas, stride = model.alphas_cumprod, 1000 // steps
    for t in reversed(range(0, stride * steps, stride)):
        noise = model.predict_noise(x, torch.tensor([t]), cond)
        alpha, following = alphas[t], alphas[max(t - stride, 0)]
        clean = (x - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        x = following.sqrt() * clean + (1 - following).sqrt() * noise
    return x


def drawn_from(model, trajectory, cond):
    """A way's end drawn again in its own steps, at guidance 1."""
    x = trajectory.latents[:1]
    for sigma, following in zip(trajectory.sigmas[:-1], trajectory.sigmas[1:]):
        t = timestep(sigma, model.sigmas).long()[None]
        x = x + (following - sigma) * model.predict_noise(x / (1 + sigma**2).sqrt(), t, cond)
    return x


@pytest.mark.parametrize("steps", [10, pytest.param(20, marks=pytest.mark.slow)])
def test_an_inverted_picture_is_drawn_again_as_by_the_published_inversion(steps):
    world = load_picture_model()
    near, published = [], []
    with torch.no_grad():
        for number, scene in enumerate(("city", "beach")):
            picture = torch.from_numpy(render(scene, None, 0.5, seed=9_100_000 + number))
            latents = world.encode_images(picture.permute(2, 0, 1)[None].float() / 255)
            told = world.encode_prompt(Prompt(f"a {scene}"))
            near.append(drawn_from(world, invert(world, latents, told, steps), told) - latents)
            far = reference_way(world, latents, told, steps)
            published.append(reference_picture(world, far, told, steps) - latents)
    error, expected = (torch.cat(found).square().mean().sqrt() for found in (near, published))
    # Ours ends the way at the clean picture, theirs at the first timestep: 0.139 and 0.126, 0.080 and 0.077;
    # at 50 steps 0.038 both.
    assert 0.5 * expected < error < 1.2 * expected


@pytest.mark.parametrize(
    "size, found", [((16, 32), (16, 32)), ((17, 65), (8, 32)), ((64, 48), (32, 24)), ((1, 999), (1, 32))]
)
def test_a_large_picture_is_reduced_to_twice_the_models_size(size, found):
    picture = torch.rand(1, 3, *size)
    made = reduced(picture, 16)
    assert made.shape == (1, 3, *found) and 0 <= made.min() and made.max() <= 1
    assert size != found or torch.equal(made, picture)


@pytest.mark.parametrize("steps", [8, 20, 30, 50])
def test_a_samplers_steps_find_their_own_null(model, latents, steps):
    """A sampler's sigmas stand between the whole timesteps that an inversion stops at."""
    trajectory = invert(model, latents, model.encode_prompt(Prompt("")), steps)
    held = replace(trajectory, nulls=torch.arange(steps).float()[:, None, None])
    sigmas = normal(model.sigmas, steps)[:-1].tolist()
    assert [int(held.null(sigma)) for sigma in sigmas] == list(range(steps))


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_the_source_of_an_edit_is_the_picture_itself(model, latents, make_token, guidance):
    token = make_token("dog")
    trajectory = invert(model, latents, model.encode_prompt(Prompt("a photo of rain")), 10)
    edit = Edit(
        Prompt("a photo of rain"),
        (Prompt("a photo of rain, *", (token,)),),
        self_downscale=1,
        trajectory=trajectory,
    )
    with torch.no_grad():
        cond = encode(model.encode_prompt, edit)
        source, edited = model.sample(
            cond, model.encode_prompt(Prompt("")), seeds=[1], steps=6, guidance=guidance, edit=edit
        )
    assert_close(source, latents[0], rtol=0, atol=1e-5)
    assert (edited - source).abs().mean() > 1e-3


@pytest.mark.parametrize("steps", [1, 4, 10])
@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_an_edit_of_a_picture_begins_at_the_picture_itself(model, latents, make_token, steps, guidance):
    """Scales from 0 on lead away from it, of several pictures and in each group."""
    told, empty = model.encode_prompt(Prompt("a photo of rain")), model.encode_prompt(Prompt(""))
    edited = Prompt("a photo of rain, *", (make_token("dog"),))
    prompts, scales = sweep([edited], [0.0, 0.01, 0.5, 1.0])
    edit = Edit(
        Prompt("a photo of rain"),
        prompts,
        scales=scales,
        self_downscale=1,
        trajectory=invert(model, latents, told, steps),
    )

    def drawn(edit, **given):
        return model.sample(
            encode(model.encode_prompt, edit), empty, steps=6, guidance=guidance, edit=edit, **given
        )

    found = drawn(edit, seeds=[1, 2])
    for group in found.split(edit.rows):
        assert_close(group[:2], latents.expand(2, -1, -1, -1), rtol=0, atol=1e-5)
        far = (group[1:] - latents).abs().mean((1, 2, 3))
        assert (far.diff() > 0).all() and far[1] < 0.1 * far[3]
    # The edit itself is what it is without other scales beside it.
    alone = drawn(replace(edit, edited=(edited,), scales=()), seeds=[1])
    assert_close(found[4], alone[1], rtol=0, atol=1e-3)


def test_a_film_of_a_picture_begins_at_the_picture_itself(model, latents, make_token):
    told, empty = model.encode_prompt(Prompt("a photo of rain")), model.encode_prompt(Prompt(""))
    shots, token = [Shot(-1, 0.0), Shot(0, 0.01), Shot(0, 1.0)], make_token("dog")
    edit = chunk_edit(
        "a photo of rain",
        "a photo of rain, *",
        shots,
        lambda stretch: token,
        self_downscale=1,
        trajectory=invert(model, latents, told, 4),
    )
    found = model.sample(
        encode(model.encode_prompt, edit), empty, seeds=[1], steps=6, guidance=5.0, edit=edit
    )
    nothing, little, whole = (found[1:] - latents).abs().mean((1, 2, 3))
    assert nothing < 1e-5 and little < 0.1 * whole


def test_null_text_makes_guidance_follow_the_way(model, latents, make_token):
    told, empty = model.encode_prompt(Prompt("a photo of rain")), model.encode_prompt(Prompt(""))
    trajectory = invert(model, latents, told, 3)
    done = []
    held = null_text(model, trajectory, told, empty, 5.0, callback=lambda step, total: done.append(step))
    assert done == [1, 2, 3] and held.guidance == 5.0 and held.nulls.shape == (3, *empty.cross.shape[1:])
    assert torch.equal(held.null(float(trajectory.sigmas[1])), held.nulls[1])
    assert not any(p.requires_grad for p in model.unet.parameters())

    def strayed(nulls):
        """How far guidance along the way's own sigmas ends from the picture."""
        x = trajectory.latents[:1]
        with torch.no_grad():
            for i, null in enumerate(nulls):
                sigma, following = trajectory.sigmas[i], trajectory.sigmas[i + 1]
                t = (model.sigmas - sigma).abs().argmin()[None]
                asked, plain = (
                    model.predict_noise(x / (1 + sigma**2) ** 0.5, t, cond)
                    for cond in (told, Conditioning(null[None]))
                )
                x = x + (following - sigma) * (plain + 5.0 * (asked - plain))
        return (x - latents).square().mean()

    assert strayed(held.nulls) < strayed(empty.cross.expand(3, -1, -1))
    token = make_token("dog")
    edits = [
        Edit(Prompt("a photo of rain"), (Prompt("a photo of rain, *", (token,)),), trajectory=t)
        for t in (trajectory, held)
    ]
    with torch.no_grad():
        cond = encode(model.encode_prompt, edits[0])
        without, with_nulls = (
            model.sample(cond, empty, seeds=[1], steps=6, guidance=5.0, edit=edit) for edit in edits
        )
    assert_close(with_nulls[0], latents[0], rtol=0, atol=1e-5)
    assert not torch.allclose(without[1], with_nulls[1], atol=1e-3)


class Flat:
    """Predicts the prompt's one number [1, 1, 1] everywhere, and computes in `dtype`."""

    sigmas = torch.linspace(0.01, 1, 1000)

    def __init__(self, dtype):
        self.dtype = dtype

    def predict_noise(self, latents, t, cond):
        return cond.cross.to(self.dtype)[..., None].expand(latents.shape)


@pytest.mark.parametrize("told", [1e-4, 100.0], ids=["nearly right", "far off"])
def test_null_text_finds_the_same_in_half_precision(told):
    """Each of 4 x 64 x 64 latents has its part in the gradient: in float16 too little to be a number, or all
    together too much."""
    trajectory = Trajectory(torch.tensor([0.2, 0.0]), torch.zeros(2, 4, 64, 64))
    prompt, empty = (Conditioning(torch.full((1, 1, 1), number)) for number in (told, 0.0))
    half, exact = (
        null_text(Flat(dtype), trajectory, prompt, empty, 5.0).nulls
        for dtype in (torch.float16, torch.float32)
    )
    assert_close(half, exact, rtol=1e-2, atol=1e-4)
    assert exact.item() > 5e-3


def test_null_text_without_a_gradient_is_named():
    trajectory = Trajectory(torch.tensor([0.2, 0.0]), torch.zeros(2, 4, 8, 8))
    prompt, empty = (Conditioning(torch.full((1, 1, 1), number)) for number in (torch.inf, 0.0))
    with pytest.raises(InputError, match="no number: load the model in bfloat16 or float32"):
        null_text(Flat(torch.float16), trajectory, prompt, empty, 5.0)


class Elsewhere(torch.Tensor):
    """On another device: joined to nothing before `to` has moved it."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.cat:
            raise RuntimeError("Expected all tensors to be on the same device")
        made = super().__torch_function__(function, types, args, kwargs)
        return made.as_subclass(torch.Tensor) if function is torch.Tensor.to else made


def test_nulls_of_another_device_are_joined(model, latents, make_token):
    told, empty = model.encode_prompt(Prompt("a photo of rain")), model.encode_prompt(Prompt(""))
    trajectory = replace(invert(model, latents, told, 3), nulls=empty.cross.expand(3, -1, -1))
    prompt = Prompt("a photo of rain, *", (make_token("dog"),))

    def drawn(trajectory):
        edit = Edit(Prompt("a photo of rain"), (prompt,), trajectory=trajectory)
        cond = encode(model.encode_prompt, edit)
        return model.sample(cond, empty, seeds=[1], steps=3, guidance=5.0, edit=edit)

    assert torch.equal(
        drawn(replace(trajectory, nulls=trajectory.nulls.as_subclass(Elsewhere))), drawn(trajectory)
    )


def test_a_saved_way_is_loaded(tmp_path):
    trajectory = Trajectory(torch.tensor([1.0, 0.0]), torch.randn(2, 4, 3, 3), model="f00d")
    trajectory.save(tmp_path / "house.safetensors", "a village")
    found, prompt = load(tmp_path / "house.safetensors")
    assert prompt == "a village" and torch.equal(found.latents, trajectory.latents)
    assert torch.equal(found.sigmas, trajectory.sigmas) and found.nulls is None and found.model == "f00d"
    assert found.guidance is None
    replace(trajectory, guidance=7.5).save(tmp_path / "house.safetensors", "a village")
    assert load(tmp_path / "house.safetensors")[0].guidance == 7.5


@pytest.mark.parametrize(
    "steps, guidance, says",
    [
        (3, 5.0, []),
        (4, 5.0, ["steps 3, but it has 4"]),
        (3, 2.5, ["(cfg) 5, but it has 2.5"]),
        (4, 1.0, [" 4", " 1"]),
    ],
)
def test_nulls_that_are_for_other_steps_or_guidance_are_told(
    model, latents, make_token, caplog, steps, guidance, says
):
    empty = model.encode_prompt(Prompt(""))
    trajectory = invert(model, latents, model.encode_prompt(Prompt("a photo of rain")), 3)
    held = replace(trajectory, nulls=empty.cross.expand(3, -1, -1), guidance=5.0)
    edit = Edit(Prompt("a photo of rain"), (Prompt("a *", (make_token("dog"),)),), trajectory=held)
    cond = encode(model.encode_prompt, edit)
    for told, found in ((edit, says), (replace(edit, trajectory=trajectory), [])):
        caplog.clear()
        model.sample(cond, empty, seeds=[1], steps=steps, guidance=guidance, edit=told)
        assert len(caplog.messages) == len(found)
        assert all(said in message for said, message in zip(found, caplog.messages))


def test_a_way_of_another_model_is_refused(model, latents, make_parts, make_token):
    told = model.encode_prompt(Prompt("a photo of rain"))
    trajectory = invert(model, latents, told, 2)
    other = DiffusersPictureModel(**vars(make_parts(seed=1)))
    prompt = Prompt("a photo of *", (make_token("dog"),))
    edit = Edit(Prompt("a photo of rain"), (prompt,), trajectory=trajectory)
    with pytest.raises(InputError, match="inverted with another model"):
        other.sample(encode(other.encode_prompt, edit), told, seeds=[1], steps=2, edit=edit)
    # The same weights in another type are the same model.
    assert model.fingerprint == model.to(torch.float16).fingerprint != other.fingerprint


def test_a_file_that_holds_no_trajectory_is_refused(tmp_path):
    whole = {"sigmas": torch.tensor([2.0, 1.0, 0.0]), "latents": torch.zeros(3, 4, 8, 8)}
    path = tmp_path / "picture.safetensors"
    save_file({**whole, "nulls": torch.zeros(2, 7, 32)}, str(path), {"aai_trajectory": "a city"})
    assert load(path)[1] == "a city"
    for change in (
        {"sigmas": torch.tensor([1.0, 2.0, 0.0])},
        {"sigmas": torch.tensor([2.0, 1.0, 0.5])},
        {"sigmas": torch.tensor([float("nan"), 1.0, 0.0])},
        {"sigmas": torch.tensor([2, 1, 0])},
        {"sigmas": torch.tensor(0.0)},
        {"sigmas": torch.zeros(0)},
        {"latents": torch.zeros(2, 4, 8, 8)},
        {"latents": torch.zeros(3, 4, 8)},
        {"latents": torch.full((3, 4, 8, 8), float("inf"))},
        {"nulls": torch.zeros(3, 7, 32)},
        {"model": torch.zeros(1)},
    ):
        save_file(whole | change, str(path), {"aai_trajectory": "a city"})
        with pytest.raises(InputError, match=r"picture\.safetensors' is no inverted picture"):
            load(path)
    for more in ({"aai_guidance": "nan"}, {"aai_guidance": "loud"}):
        save_file(whole, str(path), {"aai_trajectory": "a city", **more})
        with pytest.raises(InputError, match="no inverted picture"):
            load(path)


def test_bad_input(tmp_path, model, latents):
    cond = model.encode_prompt(Prompt(""))
    with pytest.raises(InputError, match="2 pictures"):
        invert(model, latents.repeat(2, 1, 1, 1), cond)
    with pytest.raises(InputError, match="0 steps"):
        invert(model, latents, cond, 0)
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    for name in ("other.safetensors", "nowhere.safetensors"):
        with pytest.raises(InputError, match=f"{name}' is no inverted picture"):
            load(tmp_path / name)
    with pytest.raises(InputError, match="sampler's are"):
        Trajectory(torch.tensor([1.0, 0.0]), torch.zeros(2, 4, 8, 8)).check_size((4, 8, 9))
