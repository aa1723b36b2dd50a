"""Ranks texts whose label is likely wrong, by the out-of-fold probabilities of a cross-validation:
`python -m thaw.label_errors sweep=<directory>`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from thaw.cli.check import plain
from thaw.cli.compose import exit_clearly
from thaw.cli.jobs import Job, read_jobs
from thaw.cli.kept_config import run_config
from thaw.cli.overrides import read_arguments
from thaw.cli.watched_metric import better
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.data.write import AddedColumns, RowWriter
from thaw.errors import ThawError
from thaw.report.sections import ERRORS, Table, shortened
from thaw.report.sweep import Sweep
from thaw.storage.files import read_json

KNOWN = {"sweep": None, "output": "", "top": "10"}
USAGE = """usage: python -m thaw.label_errors sweep=<directory of a sweep> [output=<file>] [top=10]
The sweep is a cross-validation of task=sequence or task=setfit, such as python train.py -m
data.folds=5 data.fold=0,1,2,3,4. Its texts are written with the likeliest errors first, to
<sweep>/label_errors.csv or where output= says; so many as top= says are printed."""
HOW = "python train.py -m data.folds=5 data.fold=0,1,2,3,4 data.test=null ..."
Rows = list[Mapping[str, Any]]  # texts, label, prediction and probabilities of each text
PROBABILITY = "probability/"  # how predictions.parquet names its columns


def main(argv: Sequence[str]) -> int:
    """Writes all texts of a cross-validation, those whose label is likely wrong first, and returns
    the number of these, by cleanlab's `find_label_issues`; raises ThawError if the runs are not the
    folds of one data set, or cleanlab is not installed."""
    given, _ = read_arguments(argv, KNOWN, USAGE)
    if not given["top"].isdigit():
        raise ThawError(f"top={given['top']}: expected a whole number.")
    sweep = Path(given["sweep"])
    path = Path(given["output"] or sweep / "label_errors.csv")
    runs = fold_runs(sweep)
    rows, places = out_of_fold(sweep, runs)
    quality, wrong = judged(rows)
    order = np.lexsort((quality, ~wrong))
    added = AddedColumns(rows[0], str(sweep))
    with RowWriter(path) as writer:
        for i in order:
            about = {"label_quality": float(quality[i]), "likely_wrong": bool(wrong[i])}
            writer.write(added.add(rows[i], about | places[i]))
    count = int(wrong.sum())
    table = likeliest(rows, places, quality, order[:count], path)
    config: Any = OmegaConf.load(sweep / runs[0].name / ".hydra" / "config.yaml")
    monitor = str(config.monitor)
    Sweep(sweep, monitor, better(monitor)).write([table])
    for number, label, prediction, *texts, _ in table.rows[: int(given["top"])]:
        text = " ".join(" | ".join(texts).split())
        print(f"{number:.4f}  {label}, predicted {prediction}: {shortened(text, 120)}")
    print(f"{count} of {len(rows)} labels are likely wrong: {path}, {sweep / 'report.html'}")
    return count


def likeliest(
    rows: Rows, places: Sequence[Mapping[str, Any]], quality: np.ndarray, wrong: Any, path: Path
) -> Table:
    """Returns the likeliest errors as a section of the report; `wrong` are their indices."""
    texts = list(rows[0])[: list(rows[0]).index("label")]  # columns of texts stand first
    shown = [
        [
            float(quality[i]),
            *(rows[i][name] for name in ("label", "prediction")),
            *(shortened(str(rows[i][name])) for name in texts),
            "{run}/{row}".format(**places[i]),
        ]
        for i in wrong[:ERRORS]
    ]
    count = len(wrong)
    note = f"By cleanlab, {count:,} of {len(rows):,} labels are likely wrong, the likeliest first."
    note += f" {path.name} holds all texts." + f" Here are {ERRORS}." * (count > ERRORS)
    columns = ("quality", "label", "predicted", *texts, "run/row")
    return Table("likely label errors", columns, shown, note, examples=True)


def fold_runs(sweep: Path) -> list[Job]:
    """Returns the finished runs of a sweep in the order of their folds; raises ThawError if they
    are no folds, not all of them, or not of one data set."""
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


def out_of_fold(sweep: Path, runs: Sequence[Job]) -> tuple[Rows, list[dict[str, Any]]]:
    """Returns what was predicted for all texts, each by the run that was not trained on it, with
    the name of that run and the row in its predictions, from 0. Raises ThawError if a run has none,
    or the data changed between the runs."""
    found: Rows = []
    places: list[dict[str, Any]] = []
    sources: list[Any] = []
    for job in runs:
        path = sweep / job.name / "predictions.parquet"
        if not path.is_file():
            raise ThawError(f"{path} is not there: only task=sequence and task=setfit write it.")
        own = list(rows_of(path, Reading()))
        about = read_json(sweep / job.name / "data.json")
        if len(own) != about["splits"]["test"]["texts"]:
            raise ThawError(
                f"{path} has {len(own)} texts; expected the {about['splits']['test']['texts']} of "
                "the test that data.json beside it has. Train this fold again."
            )
        sources.append(about["sources"])
        labels = labels_of(own[0])
        if not labels or labels != labels_of((found or own)[0]):
            has = ", ".join(labels) or "no label"
            raise ThawError(f"{path} has probabilities of {has}; expected those of all the runs.")
        found += own
        places += [{"run": job.name, "row": number} for number in range(len(own))]
    if other := [job.name for job, read in zip(runs, sources, strict=True) if read != sources[0]]:
        raise ThawError(
            f"{sweep}: the data changed between the runs {runs[0].name} and {other[0]}."
        )
    kept = sources[0][0].get("kept") if len(sources[0]) == 1 else None  # None: of an older thaw
    if kept is not None and kept < len(found):
        raise ThawError(
            f"{sweep}: the folds hold {len(found)} texts, and the data {kept}: it changed between "
            "the runs."
        )
    if kept is not None and kept > len(found):
        print(
            f"{kept - len(found)} of {kept} texts are in no fold and not judged: a label with too "
            "few texts for another fold stays in train."
        )
    return found, places


def labels_of(row: Mapping[str, Any]) -> list[str]:
    """Returns the names of the labels that have a probability."""
    return [name.removeprefix(PROBABILITY) for name in row if name.startswith(PROBABILITY)]


def judged(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Returns the quality of each text's label, and whether it is likely wrong (Northcutt et al.
    2021); raises ThawError if cleanlab is not installed."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.multilabel_classification import get_label_quality_scores as of_several
        from cleanlab.rank import get_label_quality_scores as of_one
    except ModuleNotFoundError as error:
        raise ThawError("this needs cleanlab: pip install -e '.[cleanlab]'.") from error
    labels = labels_of(rows[0])
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
