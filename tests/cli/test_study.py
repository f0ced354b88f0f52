"""`aai study` on SoundWorld."""

import json

import pytest


def test_a_comparison_and_its_page(aai, folder):
    arguments = (
        "--events",
        "rain",
        "--seeds",
        "1",
        "--steps",
        "1",
        "--pictures",
        "1",
        "--sampling-steps",
        "2",
    )
    code, out, err = aai("study", "compare", *arguments, "--batch", "1", "-o", "compare", "--json")
    report = json.loads(out)
    assert code == 0 and not err
    assert {"event", "strength off", "AIS (own encoder)"} <= {row["measure"] for row in report["figures"]}
    assert (folder / "compare" / "sheet.png").is_file() and (
        folder / "compare" / "sounds" / "rain.wav"
    ).is_file()
    code, out, _ = aai("study", "people", "compare", "-o", "p.html", "--json")
    assert code == 0 and json.loads(out)["questions"] == 1
    assert "data:audio/wav;base64," in (folder / "p.html").read_text(encoding="utf-8")
    code, _, err = aai("study", "people", "--tally", "rain1.wav", "-o", "p.html")
    assert code == 2 and "rain1.wav" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("compare", "--events", "snow", "-o", "x"), "no event 'snow'"),
        (("compare", "--sounds", "photos", "-o", "x"), "--library"),
        (("compare", "--model", "empty", "-o", "y"), "--model is for a study of your own"),
        (("compare", "--wav2clip", "rain.wav", "-o", "y"), "give --clip as well"),
        (("compare", "--gluenet", "g.ckpt", "-o", "y"), "give both --gluenet and --audioclip"),
        (("people",), "nothing to ask about"),
        (("people", "photos"), "holds no study"),
    ],
)
def test_mistakes_in_studies_get_one_sentence(aai, arguments, says):
    code, out, err = aai("study", *arguments)
    assert code == 2 and not out and says in err and err.startswith("aai: ") and err.count("\n") == 1
