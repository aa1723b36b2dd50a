"""Writes `conf/schema.json` and `docs/options.md`: `python -m thaw.cli.reference`."""
