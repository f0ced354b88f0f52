"""SoundWorld: a small world with its own sounds, pictures and models, so that everything runs without a
download."""
