"""Errors for people."""


class InputError(ValueError):
    """One sentence for a person: what is wrong, with which thing, and what to do."""
