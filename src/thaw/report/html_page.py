"""Renders report.html: a run or a sweep in one file that needs no other file and no network.

Data set text is untrusted: it is HTML-escaped, and its invisible characters are made visible.
"""

import base64
import time
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.report.sections import CLASSES, Findings, Section, cell_text, readable

if TYPE_CHECKING:
    import jinja2

    from thaw.cli.jobs import Job

SHARED = ("experiment", "task", "data", "model", "freeze")  # shown once if all jobs share them
OPEN = 20  # rows of examples that are shown at first; the others are folded away
# Control characters, which a parser drops or refuses; lone surrogates, which UTF-8 cannot encode;
# and characters that change the direction of what follows, so that a text reads as another.
INVISIBLE = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"}
INVISIBLE |= {
    code: f"[U+{code:04X}]"
    for codes in (range(0x7F, 0xA0), range(0x202A, 0x202F), range(0x2066, 0x206A), (0xFFFE, 0xFFFF))
    for code in codes
}
INVISIBLE |= {code: "\ufffd" for code in range(0xD800, 0xE000)}


def visible(value: Any) -> Any:
    """Returns a value with its invisible characters replaced; Jinja escapes it afterwards."""
    return value if hasattr(value, "__html__") else str(value).translate(INVISIBLE)


@cache
def environment() -> "jinja2.Environment":
    """Returns the Jinja environment of the templates, which escapes every value."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"cell": cell_text, "uri": data_uri, "readable": readable}
    found.globals |= {"open_rows": OPEN, "classes": CLASSES}
    return found


def data_uri(svg: str) -> str:
    """Returns an SVG image as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def now() -> str:
    """Returns the time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def run_page(found: Findings) -> str:
    """Returns the report of a run as HTML."""
    return environment().get_template("run.html").render(run=found)


def sweep_page(
    name: str,
    jobs: Sequence["Job"],
    keys: Sequence[str],
    scores: Sequence[str],
    sections: Sequence[Section],
    reports: Collection[str],
    best: str = "",
    usage: Sequence[tuple[str, str]] = (),
) -> str:
    """Returns the report of a sweep as HTML.

    Args:
        name: name of the sweep's directory.
        jobs: all jobs of the sweep.
        keys: swept keys.
        scores: metrics that are shown of each job.
        sections: the summary, with a row for each group of jobs that differ in seed or fold alone,
            and figures.
        reports: names of the jobs that have a report.html in their directory.
        best: name of the best job, which is marked; "" if none is.
        usage: what one does with it, each with the command.
    """
    page = environment().get_template("sweep.html")
    first = jobs[0].values if jobs else {}
    same = {k: v for k, v in first.items() if k in SHARED and k not in keys}
    return page.render(
        name=name,
        jobs=jobs,
        keys=keys,
        scores=scores,
        sections=sections,
        reports=reports,
        best=best,
        usage=usage,
        same=same,
        done=sum(job.status == "done" for job in jobs),
        finished=now(),
    )
