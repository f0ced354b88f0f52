"""SoundWorld's places, and the events that sound in them."""

SCENES = ("city", "beach", "forest", "desert", "village")
EVENTS = (
    "rain",
    "thunder",
    "fire",
    "sea waves",
    "wind",
    "fireworks",
    "dog",
    "rooster",
    "helicopter",
    "clock",
)

OUTLINED = ("thunder", "fire", "fireworks", "dog", "rooster", "helicopter", "clock")
"""The events that fill a part of a picture; the others fill all of it."""


def placed(scene: str, event: str) -> str:
    """A prompt of an event in a place: "a city under *", "a village with *"."""
    above = event in ("rain", "thunder", "wind", "fireworks")
    return f"a {scene} {'under' if above else 'with'} *"


ESC10 = {
    "rain": "rain",
    "fire_crackling": "fire",
    "sea_waves": "sea waves",
    "dog_bark": "dog",
    "rooster": "rooster",
    "helicopter": "helicopter",
    "clock_tick": "clock",
}
FOLDS = (1, 2, 3, 4)
"""The folds of recordings that are used; the fifth is heard by no one."""
