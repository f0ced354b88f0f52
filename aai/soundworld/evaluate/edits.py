"""What edits do on SoundWorld, in figures: whether the event appears, the scene stays and the rest too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...inject.edit import Edit, blended, encode, stack_of, sweep, windows
from ...inject.flow_edit import edit_picture
from ...inject.invert import invert
from ...metrics import Share
from ...picture.model import PictureModel
from ...prompt import Prompt
from ...token import SoundToken
from ..oracle import CALM, Oracle
from ..pictures import event_mask, render
from ..world import EVENTS, OUTLINED, SCENES, placed

EDITED = tuple(event for event in EVENTS if event != "sea waves")
"""A sound of the sea is no change to a beach, so it is left out."""

SCALES = (0.0, 0.5, 1.0, 1.5, 2.0)
INTENSITY = 0.8
"""Of the sounds: a faint one may leave a picture as it is, and rightly."""

SAMPLING_STEPS, GUIDANCE = 15, 4.0

BLEND = {"changes": True, "start": 0.3, "threshold": 0.4}
"""Edits of things are limited to where they change most (`inject.edit.blended`): SoundWorld's U-Net redraws
the rest a little, and its attention to a thing's word hardly locates the thing."""

BLENDED = ("fire", "dog", "rooster", "helicopter", "clock")
"""The events whose edits are. Thunder and fireworks darken the whole scene, rain and wind fill it: half of
that is another scene."""

CROSS_WINDOW = (0.0, 0.6)
"""Edits of the other events stop borrowing cross-attention sooner than `Edit`'s default: what crosses the
whole scene, as the strokes of wind and thunder do, is drawn late."""

RELIT = ("thunder", "fire", "fireworks")
"""The outlined events that change the light of the whole scene, as they should."""

PHOTOGRAPHS, RENDERED = 8_100_000, 8_200_000
"""The first seeds of the pictures that stand for photographs, and of those that `rendered` compares."""


def fitted(edit: Edit, model: PictureModel, event: str) -> Edit:
    """SoundWorld's windows for an edit by an event's sound."""
    edit = replace(edit, **windows(style=False, transformer=model.joint))
    return edit if event in BLENDED else replace(edit, cross_window=CROSS_WINDOW)


def kept(edit: Edit, model: PictureModel, event: str) -> Edit:
    """SoundWorld's settings for an edit by an event's sound."""
    edit = fitted(edit, model, event)
    return blended(edit, model.encode_prompt, **BLEND) if event in BLENDED else edit


def draw_edit(model: PictureModel, edit: Edit, seeds: Iterable[int]) -> Tensor:
    """Pictures [seeds, rows, 3, H, W] in [0, 1]: for each seed the source and the edited ones."""
    cond, uncond = encode(model.encode_prompt, edit, stack_of(model)), model.encode_prompt(Prompt(""))
    latents = model.sample(
        cond, uncond, seeds=list(seeds), steps=SAMPLING_STEPS, guidance=GUIDANCE, edit=edit
    )
    return model.decode(latents).clamp(0, 1).unflatten(0, (-1, edit.rows))


def similarity_outside(source: Tensor, edited: Tensor, mask: Tensor) -> float:
    """Mean SSIM of two pictures [3, H, W] outside a mask [h, w] of the edited one."""
    from skimage.metrics import structural_similarity

    _, similar = structural_similarity(
        *(p.permute(1, 2, 0).numpy() for p in (source, edited)), channel_axis=2, data_range=1.0, full=True
    )
    outside = F.interpolate(mask[None, None].float(), source.shape[-2:])[0, 0].numpy() < 0.5
    return float(similar.mean(2)[outside].mean()) if outside.any() else 1.0


def edits(
    model: PictureModel,
    oracle: Oracle,
    tokens: Mapping[str, SoundToken],
    seeds: Iterable[int],
    say: Callable[[str], None],
) -> dict[str, Share | float]:
    """A scene becomes the scene under a sound, for every scene and every token's event; beside it the edited
    prompt sampled without the edit, of the same noise."""
    seeds = list(seeds)
    hits: dict[str, list[bool]] = {}
    alike: dict[str, list[float]] = {}
    for event, token in tokens.items():
        for scene in SCENES:
            prompts = Prompt(f"a {scene}", (token,)), (Prompt(placed(scene, event), (token,)),)
            for form, edit in (
                ("edited", kept(Edit(*prompts), model, event)),
                ("without the edit", Edit(*prompts, cross_window=(0.0, 0.0), self_window=(0.0, 0.0))),
            ):
                pairs = draw_edit(model, edit, seeds)
                sources, changed = oracle.grade(pairs[:, 0]), oracle.grade(pairs[:, 1])
                add = hits.setdefault
                add(f"{form}: the event is in the edited picture and not in the source", []).extend(
                    e == event and s != event for e, s in zip(changed.events, sources.events)
                )
                add(f"{form}: the scene's class stays", []).extend(s == scene for s in changed.scenes)
                if form == "edited":
                    add("the source shows its scene and nothing else", []).extend(
                        e == CALM and s == scene for e, s in zip(sources.events, sources.scenes)
                    )
                if event in OUTLINED:
                    near = [similarity_outside(*pair, mask) for pair, mask in zip(pairs, changed.masks)]
                    kind = "events that light the scene" if event in RELIT else "things"
                    for of in ("", f"; {kind}"):
                        alike.setdefault(f"{form}: SSIM to the source outside the event{of}", []).extend(near)
        say(f"{event}: edited in {len(SCENES)} scenes")
    figures: dict[str, Share | float] = {what: Share(sum(h), len(h)) for what, h in hits.items()}
    return figures | {what: float(np.mean(values)) for what, values in alike.items()}


def rendered(events: Iterable[str], seeds: Iterable[int]) -> dict[str, float]:
    """What `edits`' SSIM is of the renderer's own pairs, a scene without and with an event: the same scene to
    the pixel, in the event's light. No edit that brings an event as the world does leaves more as it was."""
    alike: dict[str, list[float]] = {}
    outlined = [event for event in events if event in OUTLINED]
    for event in outlined:
        for scene, seed in product(SCENES, seeds):
            pair = (render(scene, what, INTENSITY, seed=RENDERED + seed) for what in (None, event))
            before, after = (torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p in pair)
            mask = torch.from_numpy(event_mask(scene, event, INTENSITY, seed=RENDERED + seed))
            near = similarity_outside(before, after, mask)
            kind = "events that light the scene" if event in RELIT else "things"
            for of in ("", f"; {kind}"):
                alike.setdefault(f"rendered: SSIM to the source outside the event{of}", []).append(near)
    return {what: float(np.mean(values)) for what, values in alike.items()}


def photographs(
    model: PictureModel, oracle: Oracle, tokens: Mapping[str, SoundToken]
) -> dict[str, Share | float]:
    """Rendered pictures, which no model has drawn, as a user's photographs, edited by every token: inverted
    first, or by FlowEdit where the model is a flow. The autoencoder alone sets how near the source can come
    to the photograph."""
    shown: list[bool] = []
    near: dict[str, list[float]] = {"source": [], "outside": []}
    nothing = torch.zeros(64, 64)
    for number, scene in enumerate(SCENES):
        photograph = torch.from_numpy(render(scene, None, 0.5, seed=PHOTOGRAPHS + number))
        photograph = photograph.permute(2, 0, 1).float() / 255
        edit_by = _by_flow(model, photograph, scene) if model.joint else _inverted(model, photograph, scene)
        for event, token in tokens.items():
            before, edited = edit_by(event, Prompt(placed(scene, event), (token,)))
            grades = oracle.grade(edited[None])
            shown.append(grades.events == [event])
            near["source"].append(similarity_outside(photograph, before, nothing))
            if event in OUTLINED:
                near["outside"].append(similarity_outside(photograph, edited, grades.masks[0]))
    return {
        "photographs: the event is in the edited picture": Share(sum(shown), len(shown)),
        "photographs: SSIM of the source to the photograph": float(np.mean(near["source"])),
        "photographs: SSIM of the edited picture to the photograph outside the event": float(
            np.mean(near["outside"])
        ),
    }


def _inverted(model: PictureModel, photograph: Tensor, scene: str) -> Callable[[str, Prompt], Tensor]:
    source = Prompt(f"a {scene}")
    trajectory = invert(model, model.encode_images(photograph[None]), model.encode_prompt(source))

    def edit_by(event: str, prompt: Prompt) -> Tensor:
        edit = kept(Edit(source, (prompt,), trajectory=trajectory), model, event)
        return draw_edit(model, edit, [0])[0]

    return edit_by


def _by_flow(model: PictureModel, photograph: Tensor, scene: str) -> Callable[[str, Prompt], Tensor]:
    latents, encode_prompt = model.encode_images(photograph[None]), model.encode_prompt
    source, uncond = encode_prompt(Prompt(f"a {scene}")), encode_prompt(Prompt(""))

    def edit_by(event: str, prompt: Prompt) -> Tensor:
        made = edit_picture(model, latents, source, [encode_prompt(prompt)], uncond, guidance=GUIDANCE)
        return model.decode(torch.cat([latents, made]))

    return edit_by


def loudness_sweep(
    model: PictureModel, oracle: Oracle, tokens: Mapping[str, SoundToken], seeds: Iterable[int]
) -> dict[str, float]:
    """Per event, Spearman of eq. 8's scale and the intensity that the oracle measures (0 where it sees
    nothing); the same without scale 0, which gives the source picture by its definition; and in how many
    pictures of each scale it sees something."""
    from scipy.stats import spearmanr

    seeds, figures = list(seeds), {}
    seen_at: dict[float, list[bool]] = {scale: [] for scale in SCALES}
    for event, token in tokens.items():
        scales, measured = [], []
        for scene in SCENES:
            edited, edit_scales = sweep([Prompt(placed(scene, event), (token,))], SCALES)
            edit = fitted(Edit(Prompt(f"a {scene}"), edited, scales=edit_scales), model, event)
            for row in draw_edit(model, edit, seeds):
                grades = oracle.grade(row[1:])
                scales += SCALES
                measured += [
                    0.0 if seen == CALM else value for seen, value in zip(grades.events, grades.intensities)
                ]
        above_0 = [(scale, value) for scale, value in zip(scales, measured) if scale]
        figures[event] = float(spearmanr(scales, measured).statistic)
        figures[f"{event}, scales above 0"] = float(spearmanr(*zip(*above_0)).statistic)
        for scale, value in zip(scales, measured):
            seen_at[scale].append(value > 0)
    for of in ("", ", scales above 0"):
        figures[f"mean{of}"] = float(np.mean([figures[f"{event}{of}"] for event in tokens]))
    return figures | {f"share seen at scale {scale:g}": float(np.mean(s)) for scale, s in seen_at.items()}
