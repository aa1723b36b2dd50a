"""A callback that says when the first training step is done, and ends the process there."""

import os
import time
from typing import Any

from lightning.pytorch import Callback


class FirstStep(Callback):
    """Prints the seconds since `BEGAN`, wall clock and of this process's CPU, as a line of JSON."""

    def on_train_batch_end(self, *args: Any) -> None:
        times = os.times()
        wall = time.time() - float(os.environ["BEGAN"])
        print(f'{{"wall": {wall:.2f}, "cpu": {times.user + times.system:.2f}}}', flush=True)
        os._exit(0)
