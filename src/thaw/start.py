"""Trains: `python train.py`, `thaw train` and `python -m thaw.start` all come here."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from thaw.cli.compose import exit_clearly, refuse_options_of_others, register_resolvers
from thaw.cli.conf import conf_dir
from thaw.cli.resume import command_to_resume
from thaw.cli.secrets import redacted_config
from thaw.training.libraries import garbage_kept


def run_composed(cfg: DictConfig, apart: bool = False) -> float | None:
    """Hands the composed config to its program, `thaw.train.train` by default, after checking it,
    and returns the watched metric, None if it was not measured.

    Args:
        cfg: the composed config, of a job that Hydra runs.
        apart: whether a run of several processes is started as processes of its own, as Lightning
            would start the command line of this process again. A job of a sweep always is.

    Raises:
        ThawError: the config, the data or the checkpoint does not fit.
    """
    from thaw.cli.check import checked
    from thaw.cli.jobs import is_done
    from thaw.cli.processes import finish_process_group, launch, require_world
    from thaw.cli.subprocess_job import run_apart, takes_processes
    from thaw.storage.files import read_json

    if is_done(cfg):
        # A search goes on from the values of its trials.
        return read_json(Path(cfg.run_dir) / "metrics.json").get(cfg.monitor)
    require_world(cfg)
    cfg = checked(cfg)
    # The processes of a job must not see its sweep's command line, which they do not where a
    # launcher such as submitit has started all of them.
    apart |= HydraConfig.get().mode == RunMode.MULTIRUN and launch() is None
    if apart and takes_processes(cfg):
        return run_apart(cfg)
    # Imported here: --help and a mistake in an option are answered without loading torch.
    with garbage_kept():
        program = hydra.utils.get_method(cfg.program)
    value = program(cfg)
    finish_process_group()
    return value


def run_job(cfg: DictConfig) -> float | None:
    """Runs a composed config as a job of Hydra; a mistake in a run, where it is the only job, ends
    the process here, as Hydra would print `Error executing job` first."""
    alone = HydraConfig.get().mode == RunMode.RUN
    with exit_clearly() if alone else nullcontext():
        return run_composed(cfg)


def show_blocks(argv: Sequence[str]) -> None:
    """Prints after `--cfg job` which blocks train, as comments below the config."""
    if "job" in argv and argv[argv.index("job") - 1] in ("--cfg", "-c"):
        from thaw.encoder.blocks import parameter_table
        from thaw.parameters import frozen_task

        words = [word for word in argv if "=" in word and not word.startswith(("-", "hydra."))]
        table = parameter_table(frozen_task(words))
        print("".join(f"# {line}\n" for line in table.splitlines()), end="")


def main() -> None:
    """Runs the command line of this process: Hydra reads its words, which `--help` lists."""
    register_resolvers()
    with exit_clearly():
        refuse_options_of_others(sys.argv[1:])
        sys.argv[1:] = command_to_resume(sys.argv[1:])
        decorate = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
        with redacted_config(sys.argv[1:]):
            try:
                decorate(run_job)()
            except ValueError as error:
                from thaw.report.sweep import end_without_score  # loaded already in a search

                end_without_score(error)
                raise
        show_blocks(sys.argv[1:])


if __name__ == "__main__":
    main()
