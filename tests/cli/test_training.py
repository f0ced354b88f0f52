"""The arguments by which every command that takes a sound trains its token."""

import argparse

import pytest

from aai import cli
from aai.adapt.settings import TrainSettings
from aai.cli.training import TRAINING, add_training_arguments, settings_of


@pytest.fixture
def parsed():
    """parsed("--rate", "0.1") -> the options."""
    parser = argparse.ArgumentParser()
    add_training_arguments(parser)
    return lambda *arguments: parser.parse_args(arguments)


def test_without_options_the_settings_are_their_own_defaults(parsed):
    assert settings_of(parsed()) == TrainSettings(steps=60, seed=0)


def test_every_option_is_a_setting(parsed):
    given = dict(
        rate="0.01", batch="2", chunk="1", sound_scale="raw", rho="0.5", norm="direction", kappa="0.01",
        vectors="2", template="styles", timesteps="uniform", average="0.5", validate="10", patience="3",
    )  # fmt: skip
    assert set(given) == {name for name, *_ in TRAINING}
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
    settings = settings_of(parsed(*words, "--checkpointing", "--train-steps", "7", "--seed", "5"))
    assert settings == TrainSettings(
        rate=0.01, batch=2, chunk=1, scale="raw", rho=0.5, norm="direction", kappa=0.01,
        vectors=2, template="styles", timesteps="uniform", average=0.5, validate=10, patience=3,
        checkpointing=True, steps=7, seed=5,
    )  # fmt: skip


def test_no_limit_is_written_as_0(parsed):
    assert settings_of(parsed("--rho", "0")).rho is None


def test_a_command_that_trains_lists_them(capsys):
    with pytest.raises(SystemExit):
        cli.main(["token", "--help"])
    shown = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')} {metavar}" in shown for name, _, metavar, _ in TRAINING)


def test_a_command_that_draws_takes_all_of_it_and_lists_the_usual():
    drawing, training = argparse.ArgumentParser(), argparse.ArgumentParser()
    add_training_arguments(drawing, listed=False)
    add_training_arguments(training)
    assert drawing.parse_args(["--rho", "0.5", "--checkpointing"]).rho == 0.5
    assert "--train-steps" in drawing.format_help() and "aai token --help" in drawing.format_help()
    assert "--rho" not in drawing.format_help() and "--rho" in training.format_help()
