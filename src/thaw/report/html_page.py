"""report.html: a run or a sweep as one file that needs no other, no network and no account.

Texts of data sets are strangers: all of them are escaped, and what is not seen in them is shown.
"""

import base64
import time
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.report.sections import CLASSES, Findings, Table, shown_number

if TYPE_CHECKING:
    import jinja2

    from thaw.cli.jobs import Job

TOLD = ("experiment", "task", "data", "model", "freeze")  # of the words that all jobs share
OPEN = 20  # rows of examples that are not folded away
# Control characters (a parser drops or refuses them), lone surrogates (no UTF-8), and those that
# turn the direction of what follows (a text that reads unlike what it is).
UNSEEN = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"}
UNSEEN |= {
    code: f"[U+{code:04X}]"
    for codes in (range(0x7F, 0xA0), range(0x202A, 0x202F), range(0x2066, 0x206A), (0xFFFE, 0xFFFF))
    for code in codes
}
UNSEEN |= {code: "\ufffd" for code in range(0xD800, 0xE000)}


def visible(value: Any) -> Any:
    """A value as a page can show it; escaping comes after."""
    return value if hasattr(value, "__html__") else str(value).translate(UNSEEN)


@cache
def environment() -> "jinja2.Environment":
    """Templates that escape what they are given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"cell": shown_number, "uri": data_uri}
    found.globals |= {"open_rows": OPEN, "classes": CLASSES}
    return found


def data_uri(svg: str) -> str:
    """An image within the page."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def now() -> str:
    """The time, for people anywhere."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def run_page(found: Findings) -> str:
    """The report of a run."""
    return environment().get_template("run.html").render(run=found)


def sweep_page(
    name: str,
    jobs: Sequence["Job"],
    keys: Sequence[str],
    summary: Table,
    panels: Sequence[str],
    reports: Collection[str],
) -> str:
    """The report of a sweep.

    Args:
        name: of its directory.
        jobs: all of them.
        keys: the swept ones.
        summary: a row for each group of jobs that differ in the seed alone, with its score; the
            title is the score's name.
        panels: SVG images.
        reports: names of the jobs that have a report.html in their directory.
    """
    page = environment().get_template("sweep.html")
    same = {k: v for k, v in jobs[0].values.items() if k in TOLD and k not in keys} if jobs else {}
    return page.render(
        name=name,
        jobs=jobs,
        keys=keys,
        summary=summary,
        panels=panels,
        reports=reports,
        same=same,
        done=sum(job.status == "done" for job in jobs),
        finished=now(),
    )
