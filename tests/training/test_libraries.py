import platform
import subprocess
import sys

import pytest

TWO_RUNS = """
import numpy
from thaw.training.libraries import keep_freed_memory

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) // 1024

keep_freed_memory()
arrays = [numpy.ones(2**20, numpy.uint8) for _ in range(300)]
last = numpy.ones(2**20, numpy.uint8)  # lies above them, so that they leave a hole
del arrays
kept = resident()
keep_freed_memory()
print(kept - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_a_run_gives_back_the_memory_that_an_earlier_run_of_its_process_freed():
    found = subprocess.run([sys.executable, "-c", TWO_RUNS], capture_output=True, text=True)
    assert int(found.stdout) > 250, found
