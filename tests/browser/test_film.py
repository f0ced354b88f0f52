"""The template of a film as a graph: its plot stands on the node, and the film plays with its sound."""

from __future__ import annotations

import pytest

from aai.soundworld.loaders import load_sound_encoder

PLAYED = """async () => {
    const film = [...document.querySelectorAll("video")].find((video) => video.src || video.currentSrc);
    if (!film) return null;
    film.muted = true;
    film.volume = 0;
    await film.play();
    await new Promise((over) => setTimeout(over, 1500));
    return {
        time: film.currentTime, seconds: film.duration, width: film.videoWidth,
        sound: film.webkitAudioDecodedByteCount, pictures: film.webkitVideoDecodedByteCount,
    };
}"""


@pytest.mark.all
def test_a_film_has_its_plot_and_plays_with_its_sound(tab, server, renderer):
    page = tab(renderer)
    page.load(page.template("sound_film"))
    page.set("AAI_LoadAudio", length=4.0)
    page.set("KSampler", steps=4)
    page.show("AAI_SoundTimeline", "AAI_JoinFrames", "SaveVideo")
    page.run()
    assert page.wait()["status"]["status_str"] == "success"
    plot = page.page.locator(".aai-words-band .aai-known")
    plot.first.wait_for()
    words = {span.get_attribute("title") for span in plot.all()}
    assert words and words <= set(load_sound_encoder().labels)
    assert len(page.page.locator(".aai-plot .aai-losses").first.get_attribute("points").split()) == 2 * 16
    page.page.locator("video").first.wait_for(state="attached")
    page.shot("film")
    played = page.page.evaluate(PLAYED)
    assert played and played["time"] > 0.5 and played["width"] == 128
    assert abs(played["seconds"] - 4.0) < 0.3
    assert played["sound"] > 0 and played["pictures"] > 0
    assert page.complaints == []
