"""Words for things that make sounds: a bridge is fitted on them, and they are its encoder's labels.

Our own list of everyday sounds from all over the world, each worded as in a prompt for a picture model.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError
from ..files import Unreadable, read_text

TEMPLATES = ("{label}", "this is a sound of {label}", "{label} can be heard")
"""A label in captions of sounds, for CLAP's text tower."""

_BY_KIND = {
    "weather": """
        rain; heavy rain; light rain; a rainstorm; rain on a window; rain on a roof; a thunderstorm;
        thunder; lightning; hail; a snowstorm; a blizzard; wind; strong wind; howling wind; wind in
        the trees; a sandstorm; a tornado; a hurricane; wind chimes
    """,
    "water": """
        sea waves; waves on a beach; a stormy sea; a river; a stream; a waterfall; a lake; a
        fountain; dripping water; bubbles; boiling water; a splash; running water; water poured into
        a glass; a shower; a flushing toilet; a garden hose; a lawn sprinkler; a swamp; a diver
        under water; a flood
    """,
    "fire and earth": """
        fire; a campfire; a fireplace; a bonfire; a forest fire; a burning house; a candle; a torch;
        a volcano; an earthquake; a landslide; an avalanche; cracking ice; a geyser; footsteps in
        snow; footsteps in dry leaves
    """,
    "dogs, cats, farm": """
        a dog; a barking dog; a howling dog; a puppy; a cat; a meowing cat; a purring cat; a kitten;
        a cow; a mooing cow; a sheep; a bleating lamb; a goat; a pig; a grunting pig; a horse; a
        neighing horse; a galloping horse; a horse and carriage; a donkey; a rooster; a crowing
        rooster; a hen; a clucking hen; chicks; a duck; a quacking duck; a goose; a turkey; a
        peacock
    """,
    "birds": """
        a bird; a singing bird; birds in a forest; a flock of birds; a sparrow; a nightingale; a
        crow; a raven; a magpie; an owl; a hooting owl; a pigeon; a cooing dove; a seagull; an
        eagle; a hawk; a woodpecker; a cuckoo; a parrot; a penguin; a swan; a crane; a hummingbird
    """,
    "wild animals": """
        a lion; a roaring lion; a tiger; a bear; a growling bear; a wolf; a howling wolf; a fox; a
        hyena; an elephant; a trumpeting elephant; a monkey; a chimpanzee; a deer; a squirrel; a
        bat; a mouse; a rat; a snake; a hissing snake; a rattlesnake; a crocodile; a frog; frogs in
        a pond; a seal; a dolphin; a whale
    """,
    "insects": """
        crickets; crickets at night; cicadas; a grasshopper; a bee; a swarm of bees; a beehive; a
        fly; a mosquito
    """,
    "people": """
        a crowd; a cheering crowd; an applauding audience; a football stadium; a man speaking; a
        woman speaking; a child speaking; people talking; a whisper; a shouting man; a screaming
        woman; a crying baby; a laughing baby; a laughing child; a laughing woman; a laughing man; a
        cough; a sneeze; a snoring man; breathing; a heartbeat; footsteps; running feet; a marching
        army; children playing; a playground; a person eating; clapping hands; a whistling man; a
        radio announcer; a choir; a singing woman; a singing man; tap dancing
    """,
    "home": """
        a clock; a ticking clock; an alarm clock; a doorbell; a knock on a door; a creaking door; a
        slamming door; a squeaking gate; a ringing telephone; a typewriter; a keyboard; a vacuum
        cleaner; a washing machine; a dishwasher; a hair dryer; an electric shaver; a sewing
        machine; a fan; an air conditioner; a microwave oven; a blender; a coffee machine; a kettle;
        frying food; sizzling bacon; chopping vegetables; dishes; breaking glass; clinking glasses;
        a popping cork; crumpled paper; torn paper; a turned page; scissors; a zipper; coins; a cash
        register; a balloon; a bursting balloon; a music box; a smoke alarm; a camera shutter; a
        pinball machine; a slot machine; a squeaky toy
    """,
    "tools and machines": """
        a hammer; a saw; a chainsaw; an electric drill; a jackhammer; a lawn mower; a leaf blower; a
        welder; an axe chopping wood; a shovel; a blacksmith; a factory; a printing press; a steam
        engine; a diesel engine; a generator; a water pump; a windmill; a water wheel; a
        construction site; an excavator; a bulldozer; a concrete mixer; a mine; a power plant; an
        electric spark; a robot
    """,
    "traffic": """
        a car; a racing car; a skidding car; a car crash; a car horn; a car alarm; a car wash; a
        truck; a bus; a tram; a motorcycle; a bicycle; a bicycle bell; a skateboard; city traffic; a
        highway; a tunnel; a police car; an ambulance; a siren; a train; a steam locomotive; a train
        whistle; a train station; a level crossing; a subway; an elevator; an airplane; a fighter
        jet; an airport; a helicopter; a drone; a hot air balloon; a rocket launch; a spaceship; a
        boat; a motorboat; a sailing ship; a ship; a ship's horn; a submarine; a harbour; a foghorn;
        a tractor; a combine harvester; a snowmobile; a tank
    """,
    "music": """
        a piano; an organ; a harpsichord; an accordion; a harmonica; a guitar; an electric guitar; a
        banjo; a ukulele; a sitar; a harp; a violin; a cello; a double bass; a string quartet; a
        flute; a clarinet; a saxophone; a trumpet; a trombone; a french horn; bagpipes; a
        didgeridoo; a drum; a drum kit; bongos; a tambourine; maracas; a cymbal; a gong; a
        xylophone; a steel drum; a synthesizer; a turntable; an orchestra; a jazz band; a rock
        concert; a marching band; a nightclub; an opera; a carousel
    """,
    "bells and bangs": """
        church bells; a ringing bell; a cowbell; sleigh bells; a temple gong; a singing bowl;
        fireworks; a firecracker; an explosion; a bomb; a gunshot; a machine gun; a cannon; a
        battle; a sword fight; a whip; a falling tree; a referee's whistle
    """,
    "places": """
        a forest; a jungle; a rainforest; a beach; a cave; a farm; a park; a city street; a quiet
        village; a market; a supermarket; a restaurant; a coffee shop; a kitchen; a classroom; a
        library; a church; a cathedral; a swimming pool; a bowling alley; a basketball game; a
        tennis match; an ice rink; an amusement park; a roller coaster; a circus; a zoo; a haunted
        house; a dungeon; a ghost; a monster; a dragon
    """,
}


def unique(labels: list[str] | tuple[str, ...]) -> list[str]:
    """The labels stripped of surplus spaces and final full stops, each once, without empty ones."""
    cleaned = (" ".join(label.split()).rstrip(".") for label in labels)
    return list({label.lower(): label for label in cleaned if label}.values())


LABELS = tuple(unique([label for kind in _BY_KIND.values() for label in kind.split(";")]))


def read(path: str | os.PathLike) -> list[str]:
    """The labels or captions of a text file, one a line; lines that begin with # are comments.

    Raises InputError for a file that is missing, not UTF-8, or empty.
    """
    path = Path(path)
    try:
        lines = read_text(path, "utf-8-sig").splitlines()
    except Unreadable as error:
        raise InputError(
            f"'{path}' cannot be read as captions ({error}): give a text file in UTF-8."
        ) from error
    captions = unique([line for line in lines if not line.lstrip().startswith("#")])
    if not captions:
        raise InputError(f"'{path}' holds no captions: write one a line.")
    return captions
