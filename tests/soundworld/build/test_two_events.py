"""Pictures of two events: what SoundWorld's denoisers learn after pictures of one."""

from aai.soundworld.build import two_events
from aai.soundworld.loaders import load_events_oracle
from aai.soundworld.pictures import event_mask


def test_a_pair_is_two_events_with_the_smaller_in_front():
    pairs = [two_events.pair(number) for number in range(40)]
    assert pairs == [two_events.pair(number) for number in range(40)]
    assert len({seed for *_, seed in pairs}) == 40
    for scene, events, seed in pairs:
        assert len(events) == 2 and all(two_events.FAINTEST <= strength <= 1 for strength in events.values())
        behind, front = (event_mask(scene, event, events[event], seed).mean() for event in events)
        assert front < behind + 0.01


def test_its_pictures_show_both_and_its_captions_are_of_them():
    pairs = [two_events.pair(number) for number in range(40)]
    pictures = two_events.draw_pairs(pairs)
    shown = load_events_oracle().events(pictures.float() / 255)
    assert sum(set(events) <= found for (_, events, _), found in zip(pairs, shown)) >= 34
    captions = two_events.captions_of_pairs(pairs, 2, seed=0)
    assert len(captions) == 80
    for (_, events, _), (text, words) in zip(pairs[:1] + pairs[:1], captions[:2]):
        assert len(words) + sum(name in text for name in events) >= 1
