"""The page of licences has each dependency of pyproject.toml, and says which are copyleft."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers.tiny import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
INTRODUCTION, ALWAYS, EXTRAS, OTHERS = re.split(
    r"^## .+$", (REPOSITORY / "docs" / "licences.md").read_text("utf-8"), flags=re.MULTILINE
)


def rows(text):
    lines = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)[2:]
    return [tuple(line.split(" | ")) for line in lines]


def names(requirements):
    found = {canonicalize_name(Requirement(line).name) for line in requirements}
    return found - {"thaw"}


def test_the_page_of_licences_has_every_dependency_and_no_other():
    assert {name for name, _ in rows(ALWAYS)} == names(PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"].items()
    wanted = {(extra, name) for extra, needed in extras for name in names(needed)}
    assert {row[:2] for row in rows(EXTRAS)} == wanted


def test_every_copyleft_licence_is_named_before_the_tables():
    licences = dict([row[-2:] for text in (ALWAYS, EXTRAS, OTHERS) for row in rows(text)])
    assert len(licences) > 100
    assert all(licences.values())
    copyleft = {name for name, licence in licences.items() if re.search("GPL|MPL|EPL", licence)}
    assert copyleft
    assert copyleft <= set(re.findall(r"([\w-]+) \(", INTRODUCTION))
