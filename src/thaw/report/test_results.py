"""The results of a test, in one form for all tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class TestResults:
    """The results of a test, of all processes.

    Attributes:
        metrics: flat names to numbers, such as `test/f1`, as metrics.json holds them.
        outputs: what the model gave for each row of the test, by the row's number and in its order:
            probabilities, tags, a number.
        confusion: number of rows of each gold and predicted class (C, C); None if there are none.
    """

    metrics: dict[str, float]
    outputs: Mapping[int, Any] = field(default_factory=dict)
    confusion: list[list[int]] | None = None

    __test__: ClassVar[bool] = False  # for pytest: no tests in here
