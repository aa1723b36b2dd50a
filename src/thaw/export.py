"""Exports a finished run to another format: `python -m thaw.export run=<dir> format=onnx`."""

import sys
from pathlib import Path

from thaw.cli.exit import exit_clearly
from thaw.cli.overrides import read_arguments
from thaw.errors import ThawError

KNOWN = {"run": None, "format": "onnx", "tolerance": "1e-4"}
USAGE = """usage: python -m thaw.export run=<run directory> [format=onnx] [tolerance=1e-4]
Writes <run>/model/onnx: model.onnx with the tokenizer, checked against torch."""


def main(argv: list[str]) -> float:
    """Exports a finished run.

    Returns:
        The largest difference between a logit of the export and torch's, which is printed.

    Raises:
        ThawError: an option is wrong, the run is not finished, or the logits differ too much.
    """
    from thaw.cli.finished_run import finished_model, run_config

    given, _ = read_arguments(argv, KNOWN, USAGE)
    if given["format"] != "onnx":
        raise ThawError(f"format={given['format']}: expected onnx; <run>/model is Hugging Face's.")
    try:
        tolerance = float(given["tolerance"])
    except ValueError:
        raise ThawError(f"tolerance={given['tolerance']}: expected a number.") from None
    model = finished_model(Path(given["run"]))
    cfg = run_config(model.parent)

    from hydra.utils import get_class

    from thaw.encoder.onnx import export_onnx
    from thaw.training.libraries import silence_libraries

    silence_libraries()
    predictor = get_class(cfg.task._target_).predictor  # type: ignore[attr-defined]
    directory = model / "onnx"
    difference = export_onnx(predictor, model, directory, cfg.data.max_tokens, tolerance)
    print(f"{directory / 'model.onnx'}: logits differ from torch's by {difference:.2g} at most")
    return difference


if __name__ == "__main__":
    with exit_clearly():
        main(sys.argv[1:])
