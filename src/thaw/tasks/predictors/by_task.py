"""Finds the predictor of a task."""

from importlib import import_module

from thaw.tasks.predictors.base import Predictor

# By task, so that a prediction does not load what only training needs, such as Lightning.
CLASSES = {
    "thaw.tasks.sequence.SequenceClassification": "sequence.SequencePredictor",
    "thaw.tasks.regression.Regression": "regression.RegressionPredictor",
    "thaw.tasks.ner.TokenClassification": "ner.TokenPredictor",
    "thaw.tasks.mlm.MaskedLanguageModel": "mlm.MaskedPredictor",
    "thaw.tasks.setfit.SetFit": "setfit.SetFitPredictor",
}


def predictor_class(task: str) -> type[Predictor]:
    """Returns the class that predicts with the export of a task, by the path of the task's class,
    which is imported if it is not thaw's."""
    if task in CLASSES:
        module, _, name = CLASSES[task].rpartition(".")
        return getattr(import_module(f"thaw.tasks.predictors.{module}"), name)
    from hydra.utils import get_class

    return get_class(task).predictor  # type: ignore[attr-defined]
