"""Films on a MODEL: the edits of their chunks, or what the latent frames of a video model read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ...aai.errors import InputError, logger
from ...aai.inject.edit import Edit
from ...aai.inject.film import (
    NOTHING,
    SOURCE,
    Shot,
    WordOf,
    chunk_edit,
    chunks,
    plan,
    word_of_sound,
    words_of,
)
from ...aai.inject.latent_film import latent_length, latent_plan, taken
from ...aai.inject.latent_frames import LatentFilm, Take
from ...aai.inject.loudness import Reweight
from ...aai.inject.timeline import Timeline
from ...aai.inject.words import check_words, without_words
from ...aai.picture.model import Conditioning
from ...aai.prompt import Prompt, token_names
from ...aai.soundworld.loaders import load_adapter
from ...aai.token import SoundToken
from . import patch, transformer
from .clip import PROMPTS, TOKEN_IDS
from .clip import encode as encode_with
from .picture import ComfyPictureModel

log = logger(__name__)


def word_of(model, clip, token, timeline, adapter=None) -> WordOf:
    """What makes a moment's sound f_a a token: an adapter, SoundWorld's where an adapter has made the token,
    or else the token's own.

    Raises InputError where there is none, or one of another encoder or model.
    """
    if adapter is None and "adapter" not in token.provenance:
        return word_of_sound(token, timeline)
    picture = ComfyPictureModel(model, clip, None)
    adapter = adapter or load_adapter(picture)
    adapter.check(timeline.windows.whole(), picture)
    return partial(adapter.token, name=token.name)


def check_film(model, latent: dict, lines: list[str], scale: str) -> None:
    """Raises InputError for a model that takes no edit, a latent of several, several prompts, or a scale
    beside the timeline's."""
    patch.check_editable(model)
    count = len(latent["samples"])
    if count != 1:
        raise InputError(
            f"A film is drawn of one latent, and {count} came in: set the batch size to 1; the frames are "
            "added here."
        )
    if len(lines) != 1 or scale.strip() not in ("", "1", "1.0"):
        raise InputError(
            "With a timeline, there is one edited prompt, and the scale is each frame's own: write one line, "
            "leave scale at 1, and set Sound Timeline's gain."
        )


@dataclass(frozen=True)
class Film:
    """What a film is of: its timeline, the LATENT that it is drawn of, the source prompt and the edited one,
    what makes a moment's sound f_a the word at `*`, the tokens that both prompts may name besides, and
    `Edit`'s settings."""

    timeline: Timeline
    latent: dict
    source: str
    edited: str
    word_of: WordOf
    others: tuple[SoundToken, ...]
    settings: dict

    def words(self) -> Callable[[int], SoundToken]:
        """The token of each stretch of the timeline."""
        return words_of(self.timeline, self.word_of)

    def edit(self, shots: Sequence[Shot], token_of: Callable[[int], SoundToken], **changes) -> Edit:
        """The edit that draws the source and some shots; `changes` are settings of it alone."""
        settings = {**self.settings, **changes}
        return chunk_edit(self.source, self.edited, shots, token_of, self.others, **settings)


def chunk_edits(film: Film, chunk: int) -> Iterator[tuple[Edit, dict]]:
    """The edits of a film of a picture model, a chunk each, and the LATENT that each is drawn of: each scene
    has the noise that core gives a batch's latent of its number."""
    timeline, latent = film.timeline, film.latent
    planned, token_of = plan(timeline), film.words()
    shots = chunks(planned.drawn, chunk)
    side = 8 * 8 * 3 * 4 / 2**30
    height, width = latent["samples"].shape[-2:]
    log.info(
        "A film of %d frames: %d pictures to draw, in %d chunks; as pictures, all take %.2f GB of memory.",
        len(timeline), len(planned.shots), len(shots),
        height * width * side * (len(timeline) + len(planned.shots)),
    )  # fmt: skip
    first, *_ = latent.get("batch_index") or [0]
    for part in shots:
        scene = {**latent, "batch_index": [first + part[0].scene]}
        yield film.edit(part, token_of), scene


def is_clip(latent: dict) -> bool:
    """Whether a LATENT [B, C, T, h, w] has several frames."""
    samples = latent["samples"]
    return samples.ndim == 5 and samples.shape[2] > 1


def pictures_of(model) -> int:
    """How many pictures a latent frame of a video MODEL is; 1 where it draws pictures. Raises InputError for
    a transformer whose attention nothing reaches."""
    return 1 if patch.is_unet(model) else transformer.attention_of(model.model.diffusion_model).pictures


def clip_edit(model, film: Film, encode_prompt: Callable[[Prompt], Conditioning]) -> Edit:
    """The edit of a clip beside its source, each latent frame with its own word and scale. Raises InputError
    for a video model that reads its prompt otherwise, or a timeline that does not fit."""
    timeline, pictures = film.timeline, pictures_of(model)
    if timeline.new_scenes:
        raise InputError(
            "A video is one scene: turn new_scenes off in Sound Timeline, or draw pictures (a latent of one "
            "frame)."
        )
    if pictures == 1:
        raise InputError(
            "A timeline goes through the latent frames of Wan, LTX and Cosmos, whose pictures look at the "
            "text by themselves: load one of these, or draw pictures (a latent of one frame)."
        )
    planned = latent_plan(timeline, film.latent["samples"].shape[2], pictures)
    frames, stretches = taken(planned)
    token_of = film.words()
    edits = [film.edit((shot,), token_of) for shot in planned.shots]
    takes = [Take(stretches.index(s.stretch), s.scale, edit) for s, edit in zip(planned.shots, edits)]
    if SOURCE in planned.frames:
        # All of an edit at scale 0 is its source, whatever the silence of the others.
        edits.append(film.edit((NOTHING,), token_of, silence="full"))
        takes.append(Take(0, 0.0, edits[-1]))
    log.info(
        "A clip of %d latent frames with %d sounds, of a timeline of %d frames.",
        len(frames), len(stretches), len(timeline),
    )  # fmt: skip
    first = edits[0]
    prompts = {take.text: edit.edited[0] for take, edit in zip(takes, edits)}
    own, *texts = (encode_prompt(prompts[number]) for number in range(max(len(stretches), 1)))
    ids = (*encode_prompt(first.source).token_ids, *own.token_ids)
    return replace(first, film=LatentFilm(frames, tuple(takes), tuple(texts), ids))


def loudness_of(model, conditioning: list, timeline, names: Sequence[str], adapter=None) -> Edit | Reweight:
    """What a MODEL samples with, and the scale of each frame of a timeline, for the tokens or words of these
    names in a CONDITIONING (all its tokens, where none is named): of each picture of a batch, or of each
    latent frame of a video, where an adapter makes the first token each moment's own sound.

    Raises InputError as `with_scales`, and where the MODEL carries an edit, or an adapter is for pictures.
    """
    before = patch.attached(model)
    if isinstance(before, Edit):
        raise InputError(
            "A timeline goes into Prompt To Prompt Edit itself: connect it there, or take the model from "
            "before the edit."
        )
    if pictures_of(model) > 1:
        return _clip_loudness(model, conditioning, timeline, names, adapter)
    if adapter is not None:
        raise InputError(
            "On a picture model the word of each moment takes Prompt To Prompt Edit: connect timeline and "
            "adapter there, or take the adapter off."
        )
    return patch.with_scales(model, conditioning, timeline.scale.tolist(), names)


def _clip_loudness(model, conditioning: list, timeline, names: Sequence[str], adapter) -> Reweight:
    before = patch.attached(model)
    if before is not None:
        raise InputError(
            "The model has other scales already, and a timeline's stand alone: connect the model from before "
            "the other Loudness Reweight."
        )
    written = {options[TOKEN_IDS]: options[PROMPTS] for _, options in conditioning if PROMPTS in options}
    if len(written) != 1 or any(len(row.prompts) != 1 for row in written.values()):
        raise InputError("A timeline needs a conditioning of one prompt: connect Sound Token Conditioning's.")
    ((ids, row),) = written.items()
    (prompt,) = row.prompts
    known, named, word_of_moment = token_names([ids]), list(names), None
    if adapter is not None:
        (token, *others) = prompt.tokens
        word_of_moment = word_of(model, row.clip, token, timeline, adapter)
        named = [*dict.fromkeys([token.name, *named])]
    named = named or known
    if not named:
        raise InputError(
            "The conditioning has no sound token: write * or <name> in its prompt, or name words of it."
        )
    shorter, found = without_words(prompt, named)
    check_words(found, named, known)
    pictures = pictures_of(model)
    planned = latent_plan(timeline, latent_length(timeline, pictures), pictures)
    frames, stretches = taken(planned, reading=adapter is not None)
    texts, numbers = [encode_with(row.clip, shorter)], {}
    if word_of_moment is not None:
        token_of = words_of(timeline, word_of_moment)
        for stretch in stretches:
            own = Prompt(prompt.text, (token_of(stretch), *others))
            texts.append(encode_with(row.clip, own))
            numbers[stretch] = len(texts)
    takes = [Take(numbers.get(shot.stretch, 0), shot.scale) for shot in planned.shots]
    film = LatentFilm(frames, (*takes, Take(0, 0.0)), tuple(texts), ids, without=1)
    return Reweight(({},), film=film)
