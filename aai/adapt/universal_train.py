"""Trains the universal adapter: eq. 6 over a library of sounds.

A step takes some of the sounds, each with one of its pictures, and makes each a word; the loss is the picture
model's own on "a photo of *". Where a library has no pictures, each word is drawn to its label's place among
the text encoder's words instead, the mean of its pieces' embeddings. Everything else is frozen.

Many processes share a batch (`distributed`): each takes its own sounds, and all the mean of the gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from ..distributed import ALONE, Distributed
from ..errors import InputError, is_out_of_memory, logged
from ..optim import LossScale, set_rate
from ..picture.model import Conditioning, PictureModel, stacked
from ..prompt import Prompt
from ..token import SoundToken, word_vectors
from .base import base_of
from .examples import CENTRED, Examples, check, draws
from .gradients import Diverged, out_of_memory, word_gradients
from .resumption import check_alike, check_steps_left
from .sampling import timesteps
from .settings import TrainSettings
from .trainer import check_prompts
from .translation import translations
from .universal import Adapter, SoundAdapter
from .universal_settings import AdapterSettings

WORD = "sound"
"""What the training's prompts call the word."""


@dataclass(frozen=True)
class AdapterRun:
    """What a training of an adapter reads: the model, the examples, the settings, and its processes."""

    model: PictureModel
    examples: Examples
    settings: AdapterSettings
    distributed: Distributed = ALONE


class AdapterTrainer:
    """A training from step 0, or from where `resume` was stopped; `step()` trains, `adapter()` gives the
    adapter so far."""

    def __init__(
        self, run: AdapterRun, resume: SoundAdapter | None = None, provenance: Mapping[str, str] | None = None
    ):
        begun = {} if resume is None else resume.provenance
        licence = {key: begun[key] for key in ("licence",) if key in begun}
        self.run, self.provenance = run, {**licence, **(provenance or {})}
        model, examples, settings = run.model, run.examples, run.settings
        run.distributed.check(settings.batch)
        check(examples.labels, examples.pictures)
        self.device = model.device
        heard = torch.stack(list(examples.f_a.values()))
        if not torch.isfinite(heard).all() or not heard.any(1).all():
            raise InputError("A sound of the library has no embedding of finite numbers: leave it out.")
        self.base, self.fingerprint = base_of(model), model.fingerprint
        self.losses: list[float] = []
        self.apart = False
        if resume is None:
            labels, vectors = examples.table
            self.translation = translations(model, heard[0], labels, vectors)
            lengths = {key: info.mean_norm for key, info in model.text_encoders.items()}
            widths = dict(model.widths)
            g = Adapter(heard.shape[1], widths, lengths, settings.rho, settings.vectors)
            g.begin(heard[:CENTRED], settings.seed % 2**63)
        else:
            check_alike(resume, settings, examples.encoder, self.fingerprint, examples.digest)
            check_steps_left(resume, settings)
            self.translation, self.losses = resume.translation, list(resume.losses)
            g = Adapter(resume.dim, resume.widths, resume.g.lengths, settings.rho, settings.vectors)
            g.load_state_dict(resume.g.state_dict())
        self.g = g.to(self.device).requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.g.parameters(), lr=settings.rate)
        if resume is not None:
            self._restore(resume)
        self.loss_scale = LossScale(model.dtype)
        token = SoundToken(WORD, {k: torch.zeros(settings.vectors, w) for k, w in model.widths.items()})
        self.prompts = [Prompt(text, (token,)) for text in settings.templates]
        check_prompts(self.prompts, settings.template)
        self.pictured = any(examples.pictures)
        self.targets, self.rows = ({}, []) if self.pictured and not settings.near else self._targets()
        begun, random = len(self.losses), torch.Generator().manual_seed((settings.seed + 1) % 2**63)
        self.draws = islice(draws(examples.pictures, settings), begun, None)
        self.times = islice(timesteps(TrainSettings(batch=settings.batch), random), begun, None)

    @property
    def steps(self) -> int:
        """How many steps are done, those before a resumption included."""
        return len(self.losses)

    def step(self) -> float:
        """One step of Adam; returns the loss. Raises Diverged where it is no number."""
        settings, distributed = self.run.settings, self.run.distributed
        # At a rate that stays, words of sounds that were not heard are as noisy as the last steps.
        set_rate(self.optimizer, settings.rate, self.steps, settings.steps, warmup=1)
        own = distributed.share(settings.batch)
        # A step's own numbers, so that a resumed training need not draw all those before it.
        random = torch.Generator().manual_seed((settings.seed * 1_000_003 + self.steps) % 2**63)
        prompt = self.prompts[int(torch.randint(len(self.prompts), (), generator=random))]
        pairs, t = next(self.draws)[own], next(self.times)[own]
        f_a = torch.stack([self.run.examples.f_a[i] for i, _ in pairs]).to(self.device)
        made = self.g(f_a)
        words = {key: rows.detach().requires_grad_() for key, rows in made.items()}
        loss, gradients = 0.0, [torch.zeros_like(rows) for rows in words.values()]
        if self.pictured:
            loss, gradients = self._by_pictures(prompt, f_a, pairs, words, t, random)
        if self.targets:
            weight = settings.near if self.pictured else 1.0
            far, apart = self._by_words(f_a, [i for i, _ in pairs], words)
            loss += weight * far
            gradients = [a + weight * b for a, b in zip(gradients, apart)]
        self.optimizer.zero_grad()
        torch.autograd.backward(list(made.values()), gradients)
        mean = torch.tensor(loss, dtype=torch.float64)
        shared = mean.to(distributed.device, torch.float32) if distributed.count > 1 else mean
        distributed.average([shared, *(p.grad for p in self.g.parameters())])
        self.optimizer.step()
        self.losses.append(float(shared))
        return self.losses[-1]

    def adapter(self, name: str = "adapter") -> SoundAdapter:
        """The adapter so far, with the training's state."""
        g = Adapter(
            len(self.g.mean), dict(self.run.model.widths), self.g.lengths, self.g.rho, self.g.vectors
        ).requires_grad_(False)
        g.load_state_dict({key: value.cpu() for key, value in self.g.state_dict().items()})
        state = self.optimizer.state_dict()["state"]
        moments = {f"{i}.{k}": v.detach().cpu().clone() for i, kept in state.items() for k, v in kept.items()}
        examples = self.run.examples
        return SoundAdapter(
            g,
            examples.encoder,
            examples.encoder_name,
            self.fingerprint,
            self.base,
            examples.described,
            self.steps,
            name,
            self.translation,
            {**self.run.settings.as_begun(), "data": examples.digest},
            self.provenance,
            moments,
            list(self.losses),
        )

    def _by_pictures(
        self,
        prompt: Prompt,
        f_a: Tensor,
        pairs: list[tuple[int, int]],
        words: dict[str, Tensor],
        t: Tensor,
        random: torch.Generator,
    ) -> tuple[float, list[Tensor]]:
        """Eq. 6's loss and its gradients in f_adapter {key: [B, n, width]}."""
        model, settings, count = self.run.model, self.run.settings, len(pairs)
        latents = torch.stack([self.run.examples.latents[pair] for pair in pairs])
        noise = torch.randn(settings.batch, *latents.shape[1:], generator=random)
        noise = noise[self.run.distributed.share(settings.batch)]
        total, sums = 0.0, [torch.zeros_like(rows) for rows in words.values()]
        parts = list(torch.arange(count).split(1 if self.apart else settings.chunk or count))
        while parts:
            part = parts.pop(0)

            def encode(part: Tensor = part) -> Conditioning:
                rows = [self._encode(prompt, f_a[i], {k: v[i] for k, v in words.items()}) for i in part]
                return rows[0] if len(rows) == 1 else _together(rows)

            def losses(cond: Conditioning, part: Tensor = part) -> Iterator[tuple[float, Tensor]]:
                given = (
                    latents[part].to(self.device),
                    cond,
                    noise[part].to(self.device),
                    t[part].to(self.device),
                )
                yield len(part) / count, model.denoising_loss(*given)

            try:
                loss, gradients = word_gradients(
                    encode, losses, list(words.values()), self.loss_scale, self.steps + 1
                )
            except _Apart:
                self.apart = True
                parts = [*part.split(1), *(one for rest in parts for one in rest.split(1))]
                continue
            total += loss
            for kept, gradient in zip(sums, gradients):
                kept += gradient
        return total, sums

    def _by_words(
        self, f_a: Tensor, sounds: list[int], words: dict[str, Tensor]
    ) -> tuple[float, list[Tensor]]:
        """How far the words are from the sounds' targets, in squares of the vocabulary's mean length, and the
        gradients."""
        losses = []
        for key, rows in words.items():
            length = self.g.lengths[key]
            wanted = self.targets[key][[self.rows[i] for i in sounds]].to(self.device)
            e = torch.stack([self._word(key, f_a[i], rows[i]) for i in range(len(sounds))])
            losses.append((e - wanted[:, None]).square().sum(-1).mean() / length**2)
        loss = sum(losses) / len(losses)
        if not torch.isfinite(loss):
            raise Diverged(f"The training diverged at step {self.steps + 1}: lower the rate or set a rho.")
        return float(loss.detach()), list(torch.autograd.grad(loss, list(words.values())))

    def _targets(self) -> tuple[dict[str, Tensor], Sequence[int]]:
        """What the sounds' words are drawn to, {text encoder: [L, width]}, and each sound's row of it: the
        words that the examples give, or their labels', of the vocabulary's mean length. Raises InputError for
        given words that are not of this model's text encoders."""
        examples = self.run.examples
        if examples.words:
            for key, width in self.run.model.widths.items():
                rows = examples.words.get(key)
                if rows is None or rows.shape != (len(examples.labels), width) or not rows.isfinite().all():
                    raise InputError(
                        f"The examples' words for the text encoder '{key}' are not {len(examples.labels)} "
                        f"rows of {width} numbers: give every text encoder a word for each sound, or none."
                    )
            return dict(examples.words), range(len(examples.labels))
        row_of = {label: row for row, label in enumerate(sorted(set(examples.labels)))}
        words = {
            key: F.normalize(found.clone(), dim=-1) * self.g.lengths[key]
            for key, found in self.run.model.embed_words(list(row_of)).items()
        }
        return words, [row_of[label] for label in examples.labels]

    def _word(self, key: str, f_a: Tensor, f_adapter: Tensor) -> Tensor:
        translate = self.translation.get(key)
        sound = f_a if translate is None else translate(f_a)
        return word_vectors(sound, self.g.lengths[key], f_adapter)

    def _encode(self, prompt: Prompt, f_a: Tensor, f_adapter: dict[str, Tensor]) -> Conditioning:
        vectors = {key: self._word(key, f_a, rows) for key, rows in f_adapter.items()}
        return self.run.model.encode_prompt(prompt, {WORD: vectors})

    def _restore(self, resume: SoundAdapter) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        try:
            for key, value in resume.training.items():
                i, name = key.split(".")
                state.setdefault(int(i), {})[name] = value.clone()
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state, "param_groups": groups})
            shapes = [state[i]["exp_avg"].shape for i, _ in enumerate(self.g.parameters())]
            if shapes != [p.shape for p in self.g.parameters()]:
                raise ValueError("its moments are of other sizes")
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"The training's state of the adapter '{resume.name}' cannot be read ({error}): begin anew."
            ) from error


class _Apart(Exception):
    """Prompts of this family pass the picture model one at a time."""


def _together(rows: list[Conditioning]) -> Conditioning:
    """The rows as one conditioning. Raises _Apart where they hold what cannot be stacked (masks, another
    encoder's rows), or differ in length."""
    if any(row.extra for row in rows) or len({row.cross.shape for row in rows}) > 1:
        raise _Apart
    return stacked(rows, pooled=None)


def train_adapter(
    run: AdapterRun,
    name: str = "adapter",
    *,
    callback: Callable[[int, int, float], None] | None = None,
    on_stop: Callable[[SoundAdapter], None] | None = None,
    watch: Callable[[SoundAdapter], None] | None = None,
    watch_every: int = 0,
    resume: SoundAdapter | None = None,
    provenance: Mapping[str, str] | None = None,
) -> SoundAdapter:
    """Trains a universal adapter for a picture model.

    callback(step, steps, loss) may raise to cancel; `on_stop` then receives the adapter so far before the
    exception is raised again. `watch` receives it every `watch_every` steps. `resume` continues a stopped
    training, up to `settings.steps` in all, on the same curve.

    The model is one that gradients pass: ComfyUI's inside its `training()`. Raises InputError for examples of
    fewer than two sounds or of which some only have pictures, a sound that cannot enter the model's words, a
    loss that is not finite, and too little memory.
    """
    settings = run.settings
    with torch.inference_mode(False), torch.enable_grad():
        # Autograd refuses tensors that were made in inference mode.
        run = replace(run, examples=_ordinary(run.examples))
        trainer = AdapterTrainer(run, resume, provenance)
        begun = trainer.steps
        checkpointing = run.model.checkpointing() if settings.checkpointing else contextlib.nullcontext()
        try:
            with checkpointing:
                while trainer.steps < settings.steps:
                    loss = trainer.step()
                    if watch and watch_every and trainer.steps % watch_every == 0:
                        watch(trainer.adapter(name))
                    if callback:
                        callback(trainer.steps, settings.steps, loss)
        except BaseException as error:
            # Nothing of a step that diverged has entered the weights; those before it may have spoilt them.
            own = trainer.losses[begun:]
            spoilt = isinstance(error, Diverged) and (len(own) < 2 or own[-1] > own[0])
            if on_stop and own and not spoilt:
                with logged("The adapter so far could not be kept."):
                    on_stop(trainer.adapter(name))
            if isinstance(error, Exception) and is_out_of_memory(error):
                raise out_of_memory(trainer.steps + 1) from error
            raise
        return trainer.adapter(name)


def _ordinary(examples: Examples) -> Examples:
    def copied(tensors: Mapping) -> dict:
        return {k: v.clone() if v.is_inference() else v.detach() for k, v in tensors.items()}

    labels, vectors = examples.table
    return replace(
        examples,
        f_a=copied(examples.f_a),
        latents=copied(examples.latents),
        table=(labels, vectors.detach().float().cpu().clone()),
    )
