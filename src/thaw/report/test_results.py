"""The results of a test, in one form for all tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class TestResults:
    """The results of a test, of all processes."""

    # Flat names to numbers, such as `test/f1`, as metrics.json holds them.
    metrics: dict[str, float]
    # What the model gave for each row of the test, by the row's number and in its order:
    # probabilities, tags, a number.
    outputs: Mapping[int, Any] = field(default_factory=dict)
    # Number of rows of each gold and predicted class (C, C); None if there are none.
    confusion: list[list[int]] | None = None

    __test__: ClassVar[bool] = False  # for pytest: no tests in here
