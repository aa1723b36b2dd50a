"""Exports a finished run to another format: `python -m thaw.export run=<dir> format=onnx`."""

import sys
from pathlib import Path

from thaw.cli.compose import exit_clearly
from thaw.cli.overrides import read_arguments
from thaw.errors import ThawError

KNOWN = {"run": None, "format": "onnx", "quantize": "", "tolerance": "", "trust": ""}
USAGE = """usage: python -m thaw.export run=<run directory> [format=onnx] [quantize=int8]
       [tolerance=<number>] [trust=<module of your own>]
Writes <run>/model/onnx: model.onnx with the tokenizer, checked against torch; a logit may differ
by tolerance=1e-4 of its size. With quantize=int8 also model_int8.onnx, whose F1 on the test split
may fall by tolerance=0.3 points, or by one text where that is more; tolerance=null does not
measure it."""
LOGITS = 1e-4  # tolerance of logits, by default


def main(argv: list[str]) -> float:
    """Exports a finished run, and returns the largest difference between a logit of the export and
    torch's, which is printed.

    Raises:
        ThawError: an option is wrong, the run is not finished, or the logits differ too much.
    """
    from thaw.cli.finished_run import finished_model, of_run

    given, _ = read_arguments(argv, KNOWN, USAGE)
    if given["format"] != "onnx":
        raise ThawError(f"format={given['format']}: expected onnx; <run>/model is Hugging Face's.")
    if given["quantize"] not in ("", "int8"):
        raise ThawError(f"quantize={given['quantize']}: expected int8.")
    small = given["quantize"] == "int8"
    try:
        measured = not (small and given["tolerance"] == "null")
        tolerance = float(given["tolerance"]) if given["tolerance"] and measured else None
    except ValueError:
        raise ThawError(f"tolerance={given['tolerance']}: expected a number.") from None
    run = Path(given["run"])
    model = finished_model(run)
    found = of_run(run, model, given["trust"])

    from thaw.encoder.onnx.graph import export_onnx, quantize
    from thaw.tasks.predictors.by_task import predictor_class
    from thaw.training.libraries import silence_libraries

    silence_libraries()
    if small and measured:
        from thaw.quantized import quantize_checked, require_predictions

        require_predictions(run, found)  # before the export, which takes longer
    predictor = predictor_class(found.task)
    directory = model / "onnx"
    limit = LOGITS if small or tolerance is None else tolerance
    difference = export_onnx(predictor, model, directory, found.data["max_tokens"], limit)
    print(f"{directory / 'model.onnx'}: logits differ from torch's by {difference:.2g} at most")
    if small:
        if measured:
            said = str(quantize_checked(run, found, tolerance))
        else:
            quantize(directory)
            said = "what it costs is not measured"
        print(f"{directory / 'model_int8.onnx'}: {said}")
    return difference


if __name__ == "__main__":
    with exit_clearly():
        main(sys.argv[1:])
