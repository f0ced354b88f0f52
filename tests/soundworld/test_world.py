"""The names of SoundWorld, which all its parts share."""

from aai.soundworld import captions, events, scenes, world


def test_all_parts_know_the_same_names():
    assert set(events.DRAW) == set(captions.NOUNS) == set(world.EVENTS)
    assert set(scenes.DRAW) == set(world.SCENES)
    assert set(world.OUTLINED) < set(world.EVENTS)
    assert len(set(world.EVENTS)) == 10 and len(set(world.SCENES)) == 5


def test_esc10s_classes_are_events_of_their_own():
    shared = list(world.ESC10.values())
    assert len(set(shared)) == len(shared) == 7 and set(shared) <= set(world.EVENTS)
    # A class's folder is called by the event, whatever else it says.
    assert all(event.split()[0] in folder for folder, event in world.ESC10.items())


def test_an_event_is_placed_in_words():
    assert world.placed("city", "rain") == "a city under *"
    assert world.placed("village", "dog") == "a village with *"
