"""Ranks texts whose label is likely wrong, by the out-of-fold probabilities of a cross-validation:
`python -m thaw.label_errors sweep=<directory>`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from thaw.cli.check import plain
from thaw.cli.exit import exit_clearly
from thaw.cli.jobs import Job, read_jobs
from thaw.cli.kept_config import run_config
from thaw.cli.overrides import read_arguments
from thaw.cli.watched_metric import better
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.data.write import AddedColumns, RowWriter
from thaw.errors import ThawError
from thaw.report.sections import ERRORS, Table, shortened
from thaw.report.sweep import write_page
from thaw.storage.files import read_json

KNOWN = {"sweep": None, "output": "", "top": "10"}
USAGE = """usage: python -m thaw.label_errors sweep=<directory of a sweep> [output=<file>] [top=10]
The sweep is a cross-validation of task=sequence or task=setfit, such as python train.py -m
data.folds=5 data.fold=0,1,2,3,4. Its texts are written with the likeliest errors first, to
<sweep>/label_errors.csv or where output= says; so many as top= says are printed."""
HOW = "python train.py -m data.folds=5 data.fold=0,1,2,3,4 data.test=null ..."
PROBABILITY = "probability/"  # how predictions.parquet names its columns


@dataclass(frozen=True)
class Prediction:
    """What a run predicted for a text that it was not trained on.

    Attributes:
        run: name of the run.
        row: number of the text in the run's `predictions.parquet`, from 0.
        columns: texts, label, prediction and probabilities.
    """

    run: str
    row: int
    columns: Mapping[str, Any]

    @property
    def texts(self) -> list[str]:
        """Names of the columns of texts, which stand first."""
        names = list(self.columns)
        return names[: names.index("label")]

    @property
    def labels(self) -> list[str]:
        """Names of the labels that have a probability."""
        found = [name for name in self.columns if name.startswith(PROBABILITY)]
        return [name.removeprefix(PROBABILITY) for name in found]


def main(argv: Sequence[str]) -> int:
    """Writes all texts of a cross-validation, those whose label is likely wrong first.

    Returns:
        The number of labels that are likely wrong, by cleanlab's `find_label_issues`.

    Raises:
        ThawError: the runs are not the folds of one data set, or cleanlab is not installed.
    """
    given, _ = read_arguments(argv, KNOWN, USAGE)
    if not given["top"].isdigit():
        raise ThawError(f"top={given['top']}: expected a whole number.")
    sweep = Path(given["sweep"])
    path = Path(given["output"] or sweep / "label_errors.csv")
    runs = fold_runs(sweep)
    found = out_of_fold(sweep, runs)
    quality, wrong = judged(found)
    order = np.lexsort((quality, ~wrong))
    added = AddedColumns(found[0].columns, str(sweep))
    with RowWriter(path) as writer:
        for i in order:
            about = {"label_quality": float(quality[i]), "likely_wrong": bool(wrong[i])}
            about |= {"run": found[i].run, "row": found[i].row}
            writer.write(added.add(found[i].columns, about))
    count = int(wrong.sum())
    table = likeliest([(float(quality[i]), found[i]) for i in order[:count]], len(found), path)
    config: Any = OmegaConf.load(sweep / runs[0].name / ".hydra" / "config.yaml")
    monitor = str(config.monitor)
    write_page(sweep, read_jobs(sweep), monitor, better(monitor), further=[table])
    for number, label, prediction, *texts, _ in table.rows[: int(given["top"])]:
        text = " ".join(" | ".join(texts).split())
        print(f"{number:.4f}  {label}, predicted {prediction}: {shortened(text, 120)}")
    print(f"{count} of {len(found)} labels are likely wrong: {path}, {sweep / 'report.html'}")
    return count


def likeliest(wrong: Sequence[tuple[float, Prediction]], count: int, path: Path) -> Table:
    """Returns the likeliest errors as a section of the report.

    Args:
        wrong: label quality and prediction of each text whose label is likely wrong.
        count: number of all texts.
        path: file that holds all of them.
    """
    rows = [
        [
            number,
            *(found.columns[name] for name in ("label", "prediction")),
            *(shortened(str(found.columns[name])) for name in found.texts),
            f"{found.run}/{found.row}",
        ]
        for number, found in wrong[:ERRORS]
    ]
    note = f"By cleanlab, {len(wrong):,} of {count:,} labels are likely wrong, the likeliest first."
    note += f" {path.name} holds all texts." + f" Here are {ERRORS}." * (len(wrong) > ERRORS)
    texts = wrong[0][1].texts if wrong else []
    columns = ("quality", "label", "predicted", *texts, "run/row")
    return Table("likely label errors", columns, rows, note, examples=True)


def fold_runs(sweep: Path) -> list[Job]:
    """Returns the finished runs of a sweep in the order of their folds.

    Raises:
        ThawError: they are no folds, not all of them, or not of one data set.
    """
    if not (sweep / "multirun.yaml").is_file():
        raise ThawError(f"sweep={sweep}: no sweep there, such as multirun/<date>/<time>.")
    found: dict[int, Job] = {}
    data = dict[str, Any]()
    for job in read_jobs(sweep):
        run, before = sweep / job.name, data
        data = {str(k): v for k, v in plain(run_config(run).data).items()}
        fold = data.pop("fold", None)
        if fold is None:
            raise ThawError(f"{run} is no fold of a cross-validation: {HOW}")
        if isinstance(data.get("test"), str):
            raise ThawError(
                f"{run} was tested on data.test={data['test']}, and its fold was validation: with "
                "data.test=null the fold is the test, whose predictions are kept."
            )
        if fold in found:
            raise ThawError(
                f"{sweep}: fold {fold} has two runs, {found[fold].name} and {job.name}: sweep over "
                "data.fold alone."
            )
        if other := [key for key in data if found and before.get(key) != data[key]]:
            raise ThawError(
                f"{sweep}: the runs have different data: data.{other[0]} is "
                f"{before.get(other[0])} and, in {job.name}, {data[other[0]]}."
            )
        found[fold] = job
    folds = int(data.get("folds") or 0)
    if lacking := [str(n) for n in range(folds) if n not in found or not found[n].metrics]:
        raise ThawError(
            f"{sweep}: no finished run has fold {', '.join(lacking)} of {folds}. python train.py "
            f"resume={sweep} finishes runs that began. All folds: {HOW}"
        )
    if not found:
        raise ThawError(f"{sweep} has no runs: {HOW}")
    return [found[n] for n in sorted(found)]


def out_of_fold(sweep: Path, runs: Sequence[Job]) -> list[Prediction]:
    """Returns the predictions of all texts, each by the run that was not trained on it.

    Raises:
        ThawError: a run has none, or the data changed between the runs.
    """
    found: list[Prediction] = []
    for job in runs:
        path = sweep / job.name / "predictions.parquet"
        if not path.is_file():
            raise ThawError(f"{path} is not there: only task=sequence and task=setfit write it.")
        rows = enumerate(rows_of(path, Reading()))
        own = [Prediction(job.name, number, row) for number, row in rows]
        labels = own[0].labels
        if not labels or labels != (found or own)[0].labels:
            has = ", ".join(labels) or "no label"
            raise ThawError(f"{path} has probabilities of {has}; expected those of all the runs.")
        found += own
    sources = [read_json(sweep / job.name / "data.json").get("sources", []) for job in runs]
    if other := [job.name for job, read in zip(runs, sources, strict=True) if read != sources[0]]:
        raise ThawError(
            f"{sweep}: the data changed between the runs {runs[0].name} and {other[0]}."
        )
    if len(sources[0]) == 1 and sources[0][0]["rows"] != len(found):
        raise ThawError(
            f"{sweep}: the folds hold {len(found)} texts, and the data {sources[0][0]['rows']}: it "
            "changed between the runs."
        )
    return found


def judged(found: Sequence[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the quality of each text's label, and whether it is likely wrong (Northcutt et al.
    2021).

    Raises:
        ThawError: cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.multilabel_classification import get_label_quality_scores as of_several
        from cleanlab.rank import get_label_quality_scores as of_one
    except ModuleNotFoundError as error:
        raise ThawError("this needs cleanlab: pip install -e '.[cleanlab]'.") from error
    labels, rows = found[0].labels, [one.columns for one in found]
    chances = np.array([[row[PROBABILITY + name] for name in labels] for row in rows])
    number = {name: i for i, name in enumerate(labels)}
    several = isinstance(rows[0]["label"], list)
    if several:
        gold: Any = [[number[name] for name in row["label"]] for row in rows]
    else:
        gold = np.array([number[row["label"]] for row in rows])
    quality = (of_several if several else of_one)(gold, chances)
    return quality, find_label_issues(gold, chances, n_jobs=1, multi_label=several)


if __name__ == "__main__":
    with exit_clearly():
        main(sys.argv[1:])
