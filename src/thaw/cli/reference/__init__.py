"""Describes every option: in `conf/schema.json`, in `docs/options.md` and for `--help`."""
