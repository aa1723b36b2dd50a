"""A command whose output nobody reads any more goes on without a word."""

import subprocess
import sys

import pytest

from helpers.tiny import REPOSITORY


def closed_after_a_line(*command):
    """Exit code, first line and standard error of a command whose reader ends after a line."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = process.stdout.readline()
    process.stdout.close()
    _, error = process.communicate("closed\n")
    return process.returncode, first, error


@pytest.mark.parametrize("command", [("train.py",), ("-m", "thaw", "train")])
def test_help_ends_quietly(command):
    code, first, error = closed_after_a_line(*command, "--help")
    assert (code, error) == (0, "")
    assert first.startswith("thaw fine-tunes")


def test_a_command_that_prints_and_logs_does_all_its_work(tmp_path):
    script = (
        "import logging, sys\n"
        "from thaw.cli.compose import exit_clearly\n"
        "with exit_clearly():\n"
        "    logging.basicConfig(stream=sys.stdout, level='INFO')\n"
        "    print('begun', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    for epoch in range(3):\n"
        "        logging.info('epoch %d', epoch)\n"
        "        print('done', flush=True)\n"
        f"    open({str(tmp_path / 'result')!r}, 'w').close()\n"
    )
    assert closed_after_a_line("-c", script) == (0, "begun\n", "")
    assert (tmp_path / "result").is_file()
