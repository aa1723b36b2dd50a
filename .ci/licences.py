"""Writes docs/licences.md from what pip-licenses read of an environment with all extras.

pip-licenses --from all --with-license-file --format json | python .ci/licences.py   (make licences)
"""

import json
import re
import sys
import tomllib
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What older metadata calls licences. "BSD License" may be any of them, so its text decides.
NAMES = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
TEXTS = {
    "Neither the name": "BSD-3-Clause",
    "Redistribution and use in source and binary forms": "BSD-2-Clause",
    "Permission is hereby granted, free of charge": "MIT",
    "Apache License": "Apache-2.0",
}
PAGE = """# Licences of the dependencies

To see which licences you accept with thaw, for example before you ship it with a product, read
these tables. thaw itself is under [Apache-2.0](../LICENSE). Models and data that a run downloads
have licences of their own.

**Copyleft:** the Mozilla Public License (MPL-2.0) covers {weak}.
It asks whoever passes on these packages with changes to publish the changed files; a program that
imports them keeps its own licence. {strong}
The wheels of numpy, scipy and scikit-learn hold runtime libraries of GCC under the GPL with GCC's
exception, which lets programs of any licence use them; the former two also libquadmath (LGPL-2.1).

The tables are written by `make licences` with
[pip-licenses](https://github.com/raimon49/pip-licenses), from what each package declares, as
[SPDX](https://spdx.org/licenses/) expressions, with PyTorch's CPU build on Linux. PyTorch's CUDA
build also installs packages of NVIDIA (`nvidia-*`), which are proprietary.

## Always installed

{always}

## Extras

{extras}

## What these need

{others}
"""


def spdx(package: dict[str, str]) -> str:
    """Returns the licence of a package as an SPDX expression, or as it calls it; "" without any."""
    declared = [package[f"License-{of}"] for of in ("Expression", "Metadata", "Classifier")]
    for name in declared:
        try:
            return str(canonicalize_license_expression(NAMES.get(name, name)))
        except InvalidLicenseExpression:
            continue
    text = " ".join(f"{package['License-Metadata']} {package['LicenseText']}".split())
    known = (name for part, name in TEXTS.items() if part.lower() in text.lower())
    return next(known, next((name for name in declared if name != "UNKNOWN"), ""))


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Returns a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows])


def names(requirements: list[str]) -> list[str]:
    """Returns the packages of a list of requirements."""
    found = (canonicalize_name(Requirement(line).name) for line in requirements)
    return sorted(name for name in found if name != "thaw")


found = {canonicalize_name(p["Name"]): spdx(p) for p in json.load(sys.stdin)}
project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
always = names(project["dependencies"])
extras = {extra: names(needs) for extra, needs in project["optional-dependencies"].items()}
direct = {*always, *(name for needs in extras.values() for name in needs)}
unknown = sorted(name for name in direct | found.keys() if not found.get(name))
if unknown:
    sys.exit(f"licences: not installed, or without a licence: {', '.join(unknown)}")
weak = [f"{name} ({found[name]})" for name in sorted(found) if "MPL" in found[name]]
gpl = [name for name in sorted(found) if re.search(r"\bA?L?GPL", found[name])]
offers = ", ".join(f"{name} ({found[name]})" for name in gpl)
strong = f"The GPL, LGPL or AGPL is named by {offers or 'no package'}"
either = bool(gpl) and all(" OR " in found[name] for name in gpl)
strong += ", as one of two to choose from." if either else "."
page = PAGE.format(
    weak=", ".join(weak),
    strong=strong,
    always=table(["package", "licence"], [[name, found[name]] for name in always]),
    extras=table(
        ["extra", "package", "licence"],
        [[extra, name, found[name]] for extra, needs in extras.items() for name in needs],
    ),
    others=table(
        ["package", "licence"], [[n, found[n]] for n in sorted(found.keys() - direct - {"thaw"})]
    ),
)
Path("docs/licences.md").write_text(page, encoding="utf-8")
