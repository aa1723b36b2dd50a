"""Renders report.html: a run or a sweep in one file that needs no other file and no network.

Data set text is untrusted: it is HTML-escaped, and its invisible characters are made visible.
"""

import time
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.report.sections import CLASSES, cell_text, readable

if TYPE_CHECKING:
    import jinja2

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
    found.filters |= {"cell": cell_text, "readable": readable}
    found.filters["base64"] = lambda text: b64encode(text.encode()).decode()
    found.globals |= {"open_rows": OPEN, "classes": CLASSES, "now": now}
    return found


def now() -> str:
    """Returns the time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def page(template: str, **shown: Any) -> str:
    """Returns a report as HTML, `run.html` of a `run` or `sweep.html` of a sweep."""
    return environment().get_template(template).render(shown)
