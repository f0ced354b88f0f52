"""The log of a training."""

import json

import pytest

from aai.align.log import LOG, figures_log
from aai.distributed import ALONE, Distributed
from aai.errors import InputError


def lines(folder):
    return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]


def write(folder, steps, loss):
    with figures_log(folder, ALONE) as log:
        for step in steps:
            log(step, {"loss": loss})


def test_a_resumed_log_has_each_step_once(tmp_path):
    write(tmp_path, (1, 2, 3, 4), 0.5)
    with (tmp_path / LOG).open("a", encoding="utf-8") as file:
        file.write('{"step": 5, "lo')
    write(tmp_path, (3, 4, 5), 0.25)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        *((1, 0.5), (2, 0.5)),
        *((3, 0.25), (4, 0.25), (5, 0.25)),
    ]


def test_a_line_of_no_step_stays(tmp_path):
    write(tmp_path, (1,), 0.5)
    with (tmp_path / LOG).open("a", encoding="utf-8") as file:
        file.write('{"note": "mine"}\n[2]\n{"step": "two"}\n')
    write(tmp_path, (2, 3), 0.25)
    write(tmp_path, (3,), 0.125)
    kept = lines(tmp_path)
    assert kept[1:4] == [{"note": "mine"}, [2], {"step": "two"}]
    assert [(line["step"], line["loss"]) for line in (kept[0], *kept[4:])] == [
        (1, 0.5),
        (2, 0.25),
        (3, 0.125),
    ]


def test_other_processes_write_nothing(tmp_path):
    with figures_log(tmp_path, Distributed(1, 2)) as log:
        log(1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_written_gets_a_sentence(tmp_path):
    (tmp_path / LOG).mkdir()
    with pytest.raises(InputError, match="log.jsonl' cannot be written"):
        write(tmp_path, (1,), 1.0)
