"""Writes the two files that describe every option: `python -m thaw.cli.reference`.

Both are committed: `conf/schema.json` for the command line and for editors, `docs/options.md` for
people.
"""

from thaw.cli.conf import conf_dir
from thaw.cli.reference.page import page_text
from thaw.cli.reference.schema_file import schema_text
from thaw.storage.files import write_atomic


def main() -> None:
    """Writes both files."""
    write_atomic(conf_dir() / "schema.json", schema_text())
    write_atomic(conf_dir().parent / "docs" / "options.md", page_text())


if __name__ == "__main__":
    main()
