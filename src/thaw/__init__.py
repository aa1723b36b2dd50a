"""Fine-tuning of representation models: Lightning does the training, Hydra the configuration.

`thaw.fit(...)` trains and `thaw.load(...)` predicts: docs/python.md. Importing thaw loads neither
torch nor Hydra; the first call does.
"""

__version__ = "0.2.0"


def __getattr__(name: str):  # type: ignore[no-untyped-def]  # what it is, mypy cannot know
    """Returns what the package offers, imported when it is first asked for."""
    from importlib import import_module

    places = {"load": "model", "Model": "model", "fit": "fitting", "Run": "fitting"}
    if name == "ThawError":
        return import_module("thaw.errors").ThawError
    if name not in places:
        raise AttributeError(f"module 'thaw' has no attribute {name!r}")
    return getattr(import_module(f"thaw.{places[name]}"), name)
