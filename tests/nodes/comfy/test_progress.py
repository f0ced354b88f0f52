"""Progress bars on nodes, the curve that grows on one, and Cancel."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def progress(pack):
    return pack.part("nodes.comfy.progress")


@pytest.fixture
def shown(comfy, monkeypatch):
    """What ComfyUI's hook is given: (done, total, picture)."""
    import comfy.utils

    calls = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda *call, **_: calls.append(call[:3]))
    return calls


def test_a_bar_shows_how_far_it_is_and_its_picture(progress, shown):
    bar = progress.Bar(4)
    bar(1, 4)
    picture = torch.zeros(3, 8, 8)
    progress.LossCurve(4).show(picture)
    assert shown[0] == (1, 4, None)
    kind, image, side = shown[1][2]
    assert shown[1][:2] == (0, 4) and kind == "JPEG" and image.size == (8, 8) and side == 512


def test_cancel_ends_the_work_once(progress, shown):
    import comfy.model_management as management

    bar = progress.Bar(4)
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        bar(1, 4)
    bar(2, 4)
    assert [done for done, *_ in shown] == [2]


def test_a_curve_is_sent_now_and_then_and_at_its_end(progress, shown, monkeypatch):
    sent = []
    monkeypatch.setattr(progress, "send", lambda event, output: sent.append((event, output["curve"][0])))
    curve = progress.LossCurve(6)
    curve.shown = progress.time.monotonic() + 1000
    for step, loss in ((3, 0.5), (4, 0.4), (5, 0.3), (6, 0.2)):
        curve(step, 6, loss)
    # Newer versions of the bar leave out steps that follow at once.
    assert shown[0][0] == 3 and shown[-1][0] == 6
    ((event, last),) = sent
    assert event == "aai.curve" and (last["begun"], last["step"], last["total"]) == (2, 6, 6)
    assert curve.losses == [0.5, 0.4, 0.3, 0.2] and curve.begun == 2


def test_outside_of_a_node_nothing_is_sent(progress):
    progress.send("aai.curve", {})
