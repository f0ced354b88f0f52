"""`aai demo` where the registry's archive has left the demo out."""

import sys

import pytest


def test_what_the_demo_needs_is_said_where_it_is_missing(aai, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("aai.demo")]:
        monkeypatch.delitem(sys.modules, name)
    import aai as package

    monkeypatch.delattr(package, "demo", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Without("aai.demo"), *sys.meta_path])
    code, out, err = aai("demo")
    assert code == 2 and not out and err.count("\n") == 1
    assert "not part of this installation (no aai.demo)" in err and "clone https://" in err


def test_other_missing_modules_are_not_taken_for_the_demo(aai, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("aai.demo", "webbrowser"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without("webbrowser"), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError, match="webbrowser"):
        aai("demo")


class Without:
    """An importer that finds no module of a name."""

    def __init__(self, name: str):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
