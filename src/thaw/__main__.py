"""The console script: `thaw train task=ner`, `thaw predict run=... input=...`, and the others."""

import runpy
import sys

from thaw import __version__
from thaw.cli.compose import exit_clearly
from thaw.cli.overrides import did_you_mean
from thaw.errors import ThawError

# Each module is a command of its own: `thaw predict ...` is `python -m thaw.predict ...`.
COMMANDS = {
    "train": "trains; GROUP=CHOICE KEY=VALUE, as python train.py",
    "predict": "predicts for the rows of a file with a finished run",
    "evaluate": "scores a finished run on any data set",
    "export": "writes a finished run as ONNX",
    "push": "uploads the model of a finished run to the Hub",
    "label_errors": "ranks texts of a cross-validation whose label is likely wrong",
    "parameters": "lists what would train",
    "dashboard": "makes a workspace on W&B",
}
USAGE = "usage: thaw <command> [...]; thaw <command> --help says more\n\n" + "\n".join(
    f"  {name:<12} {about}" for name, about in COMMANDS.items()
)


def main() -> None:
    """Runs the command that the first word of this process's command line names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(USAGE)
        return
    if name == "--version":
        print(f"thaw {__version__}")
        return
    with exit_clearly():
        if name not in COMMANDS:
            hint = did_you_mean(name, list(COMMANDS))
            raise ThawError(f"there is no command {name!r}.{hint}\n{USAGE}")
    del sys.argv[1]
    # As `python -m` runs it, so that the processes of a run with several devices start alike.
    module = "start" if name == "train" else name
    runpy.run_module(f"thaw.{module}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
