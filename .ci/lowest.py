"""Prints pip constraints: the lowest version that pyproject.toml allows of each requirement.

python .ci/lowest.py > constraints.txt

Torch is left out: its range has one version, and the build that fits the machine is pip's choice.
"""

import re
import tomllib
from pathlib import Path

FLOOR = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(?:>=|==)\s*([0-9][\w.]*)")

project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for requirement in sorted({*project["dependencies"], *(r for e in extras.values() for r in e)}):
    if (found := FLOOR.match(requirement)) and found[1] != "torch":
        print(f"{found[1]}=={found[2]}")
