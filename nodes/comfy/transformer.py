"""Injection in the attention of ComfyUI's transformers: joint (Flux, Qwen-Image, Z-Image ...) and
cross-attention (Wan, LTX).

Each family's own modules (`families.ATTENTION`) mark the attention call that is theirs, since lengths tell
nothing: a text can be as long as its picture. An override of attention then does the marked calls, and hands
every call to the override that stood there before.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from ...aai.errors import InputError
from ...aai.inject.attention import Injection, borrow
from ...aai.inject.joint import grouped_attention, image_of
from ...aai.picture.control import Groups
from . import families
from .hidden import Hidden, with_rows
from .latent_frames import texts_of
from .mask import Padding, joined, of_queries, of_rows
from .plan import Plan, film_call, plan_of
from .state import RUN, SamplingRun

OVERRIDE = "optimized_attention_override"
JOINT, CROSS, OWN, TEXT, FIRST = "joint", "cross", "own", "text", "first"


def attention_of(transformer: nn.Module) -> families.Attention:
    """Where a transformer's attention meets its prompt. Raises InputError where nothing reaches it."""
    transformer = getattr(transformer, "_orig_mod", transformer)
    engine = families.engine(transformer, *dict.fromkeys(map(type, transformer.children())))
    reason = families.find(families.UNHOOKED, transformer)
    if engine and reason is None:
        reason = f"{engine} models have attention of their own"
    found = families.find(families.ATTENTION, transformer)
    if reason is None and found is None:
        reason = f"Of {type(transformer).__name__}'s attention nothing is known"
    if reason is not None:
        raise InputError(
            f"{reason}: load a Stable Diffusion 1, 2 or XL checkpoint, or a model of Flux, Chroma, SD3.5, "
            "Qwen-Image, Z-Image, Lumina 2, HiDream, AuraFlow, OmniGen 2, Wan, LTX, HunyuanVideo or Cosmos."
        )
    return found


def injected(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **named):
    """A model's `apply_model`, the attention of its transformer injected for this call alone."""
    run: SamplingRun | None = transformer_options.get(RUN)
    if run is None or c_crossattn is None:
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **named)
    transformer = executor.class_obj.diffusion_model
    layout, uuids = attention_of(transformer), transformer_options["uuids"]
    for argument, reason in layout.lost:
        # Core leaves what is not there out, or gives an empty list.
        if named.get(argument) is not None and len(named[argument]):
            raise InputError(reason)
    count, length = run.rows_of(x, uuids), c_crossattn.shape[1]
    if len(t) == len(uuids):
        t = t.repeat_interleave(count)
    left = families.is_one(families.LEFT, executor.class_obj)
    hidden = [
        Hidden(
            chunk, range(chunk * count, (chunk + 1) * count), run.token_ids[uid], word, run.edit.plan, left
        )
        for chunk, uid in enumerate(uuids)
        if uid in run.token_ids
        for word in run.words
        if word.changes
    ]
    plan = plan_of(
        run, layout, transformer, transformer_options, uuids, count, length, named, hidden, x, left
    )
    film = run.edit.plan.film
    if film is not None:
        plan.film = film_call(run, film, plan, transformer, x, length, named, transformer_options, left)
    plan = plan.to(x)
    if hidden:
        x, t, c_concat, c_crossattn, control, named = with_rows(
            x, t, c_concat, c_crossattn, control, named, hidden
        )
        cond_or_uncond = transformer_options.get("cond_or_uncond", [0] * len(uuids))
        transformer_options = {
            **transformer_options,
            # The same at every step: caches know conditionings by them.
            "uuids": [*uuids, *(uuid.uuid5(uuids[part.chunk], str(part.word.words)) for part in hidden)],
            "cond_or_uncond": [*cond_or_uncond, *(cond_or_uncond[part.chunk] for part in hidden)],
        }
    if plan.film is not None:
        if run.texts is None:
            run.texts = texts_of(film, c_crossattn)
        c_crossattn, named = plan.film.with_texts(c_crossattn, named, run.texts)
    mark = Mark()
    options = {**transformer_options, OVERRIDE: _override(plan, mark, transformer_options.get(OVERRIDE))}
    with marked(transformer, layout, mark), _filled(transformer, layout, plan.padding):
        out = executor(x, t, c_concat, c_crossattn, control, options, **named)
    if mark.lost:
        raise InputError(
            f"{type(transformer).__name__}'s attention did not reach the edit: update ComfyUI, or take the "
            "node that replaces this model's attention off it."
        )
    return out[: len(uuids) * count]


@dataclass
class Mark:
    """Which attention call comes next: its kind, and how many others, FIRST, come before it. `lost`: modules
    have marked their calls, and none has come."""

    kind: str | None = None
    skip: int = 0
    lost: bool = False
    taken: bool = False

    def take(self) -> str | None:
        """The kind of the call that is being made."""
        if self.kind is None:
            return None
        if self.skip:
            self.skip -= 1
            return FIRST
        kind, self.kind = self.kind, None
        self.taken = True
        return kind


@contextmanager
def marked(transformer: nn.Module, layout: families.Attention, mark: Mark) -> Iterator[None]:
    """Inside, each of the family's own attention modules marks its call."""

    def marking(kind: str, skip: int) -> Callable:
        def hook(module, args) -> None:
            mark.kind, mark.skip = kind, skip

        return hook

    def unmark(module, args, output) -> None:
        # A cache that skips the blocks marks nothing, and so loses nothing.
        mark.kind, mark.lost = None, not mark.taken

    patterns = {JOINT: layout.joint, CROSS: layout.cross, OWN: layout.own, TEXT: layout.text}
    kinds = {kind: re.compile(pattern) for kind, pattern in patterns.items() if pattern}
    hooks = []
    try:
        for name, module in transformer.named_modules():
            # Compiled modules hold the ones they were made from.
            plain = name.replace("_orig_mod.", "").removesuffix("._orig_mod")
            kind = next((k for k, pattern in kinds.items() if pattern.fullmatch(plain)), None)
            if kind is None or name.endswith("_orig_mod"):
                continue
            skip = int(type(module).__name__ in families.SECOND_CALL)
            hooks.append(module.register_forward_pre_hook(marking(kind, skip)))
            hooks.append(module.register_forward_hook(unmark))
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _filled(transformer: nn.Module, layout: families.Attention, padding: Padding) -> Iterator[None]:
    """Inside, a family that fills its text up by itself does so behind each row's own text, and one that
    takes the text's mean takes each row's own."""
    if not padding.any or not (padding.filled or layout.mean):
        yield
        return

    def own_mean(module, args) -> tuple:
        if len(args[0]) != len(padding.lengths):
            return args
        shares = args[0].new_tensor([padding.own / length for length in padding.lengths])
        return args[0] * shares[:, None], *args[1:]

    if layout.mean:
        hook = transformer.get_submodule(layout.mean).register_forward_pre_hook(own_mean)
        try:
            yield
        finally:
            hook.remove()
        return
    filler = getattr(transformer, layout.filler[1])

    def fill(module, args, output: Tensor) -> Tensor:
        if len(output) != len(padding.lengths):
            return output
        output = output.clone()
        for row, length in zip(output, padding.lengths):
            row[length : padding.own] = filler.to(row)
        return output

    hook = getattr(transformer, layout.filler[0]).register_forward_hook(fill)
    try:
        yield
    finally:
        hook.remove()


def _override(plan: Plan, mark: Mark, other: Callable | None) -> Callable:
    def call(function, q, k, v, heads, mask, **named) -> Tensor:
        if other is not None:
            return other(function, q, k, v, heads, mask=mask, **named)
        return function(q, k, v, heads, mask=mask, **named)

    def override(function, q, k, v, heads, mask=None, **named) -> Tensor:
        kind = mark.take()
        if not named.get("skip_reshape"):
            # Some leave their heads apart in one of the three.
            q, k, v = (x.flatten(2) for x in (q, k, v))

        def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
            return call(function, q, k, v, heads, mask, **named)

        if kind == CROSS and plan.film is not None:
            return _frames(plan, attend, q, k, v, mask)
        if kind == FIRST and plan.film is not None:
            k, v = plan.film.first_keys(k), plan.film.first_keys(v)
        if kind in (None, FIRST) or len(q) != len(plan.padding.lengths):
            return attend(q, k, v, mask)
        if kind == OWN:
            return attend(borrow(q, plan.borrowing), borrow(k, plan.borrowing), v, mask)
        mask = joined(mask, plan.padding.bias(q, k.shape[-2], kind != JOINT, plan.layout.first, plan.text))
        if kind == TEXT:
            return attend(q, k, v, mask)
        if plan.watched:
            split = (lambda x: x) if named.get("skip_reshape") else partial(_split, heads=heads)
            _observe(plan, kind, split(q), split(k), mask)
        return (_joint if kind == JOINT else _cross)(plan, attend, q, k, v, mask)

    return torch.compiler.disable(override)


def _observe(plan: Plan, kind: str, q: Tensor, k: Tensor, mask: Tensor | None) -> None:
    """Shows a marked call's k [B, heads, S, d], and the q of the picture's own places, to those who watch."""
    length, first = q.shape[-2], plan.padding.before
    image = slice(0, length)
    if kind == JOINT:
        if length <= plan.text:
            return
        image = image_of(plan.text_of(length), length)
        first += plan.text_of(length).start
    queries = slice(image.start + plan.ahead, image.stop)
    if k.shape[1] != q.shape[1]:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    for rows, watch in plan.watched:
        own = of_queries(of_rows(mask, rows), queries, length)
        own = own[:, None] if own is not None and own.ndim == 3 else own
        watch(*(x[rows.start : rows.stop] for x in (q[..., queries, :], k)), own, first)


def _split(x: Tensor, heads: int) -> Tensor:
    """[B, N, heads * d] to [B, heads, N, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _joint(plan: Plan, attend: Callable, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    length = q.shape[-2]
    if length <= plan.text:
        return attend(q, k, v, mask)
    text = plan.text_of(length)

    def of(q: Tensor, k: Tensor, v: Tensor, queries: slice, rows: Sequence[int]) -> Tensor:
        return attend(q, k, v, of_queries(of_rows(mask, rows), queries, length))

    return grouped_attention(of, q, k, v, text, plan.joint, plan.words)


def _frames(plan: Plan, attend: Callable, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    if len(q) != len(plan.padding.lengths):
        raise InputError(
            f"Another node's attention patch has made {len(q)} rows of {len(plan.padding.lengths)}, so that "
            "a timeline's frames are no longer found: take that node off this model."
        )

    def of_one_text(injections, texts, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        padding = plan.film.padding(plan.padding, texts)
        own = joined(mask, padding.bias(q, k.shape[-2], True, plan.layout.first, plan.text))
        return _cross(replace(plan, cross=injections, film=None, padding=padding), attend, q, k, v, own)

    return plan.film.attention(of_one_text, q, k, v, mask)


def _cross(plan: Plan, attend: Callable, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    if plan.words:
        q = q.clone()
        for at, row, _ in plan.words:
            q[at] = q[row]
    sources = list(range(len(q)))
    for injection, groups in plan.cross:
        for row, source in injection.sources(groups).items():
            sources[row] = source

    def whole(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, of_rows(mask, sources))

    def beside(before: Callable, injection: Injection, groups: Groups) -> Callable:
        rest = injection.own_rows(groups)
        return lambda q, k, v: injection.cross_attention(
            before, q, k, v, groups, lambda q, k, v: attend(q, k, v, of_rows(mask, rest))
        )

    for injection, groups in plan.cross:
        whole = beside(whole, injection, groups)
    out = whole(q, k, v)
    if not plan.words:
        return out
    found = out.clone()
    for at, row, weight in plan.words:
        found[row] += (weight - 1) * (out[row] - out[at])
    return found
