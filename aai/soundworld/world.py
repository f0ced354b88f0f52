"""What there is in SoundWorld: places, and things that sound in them."""

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
