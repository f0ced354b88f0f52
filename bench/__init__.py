"""What is fast, and against what: `python -m bench NAME [--json]`."""
