"""Registers the resolvers that `conf/` uses."""

from omegaconf import DictConfig, OmegaConf


def register_resolvers() -> None:
    """Registers `${thaw.stamp:}`, which keeps run directories apart, and the others."""
    from thaw.cli.jobs import direction, group, job_dir, run_name, sweep_dir
    from thaw.cli.processes import first_only, stamp

    OmegaConf.register_new_resolver("thaw.stamp", stamp, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("thaw.first_only", first_only, replace=True)
    OmegaConf.register_new_resolver("thaw.sweep", sweep_dir, replace=True)
    OmegaConf.register_new_resolver("thaw.job", job_dir, replace=True)
    OmegaConf.register_new_resolver("thaw.options", options_of, replace=True)
    OmegaConf.register_new_resolver("thaw.group", group, replace=True)
    OmegaConf.register_new_resolver("thaw.name", run_name, replace=True)
    OmegaConf.register_new_resolver("thaw.task", lambda t: t.split(".")[-2], replace=True)
    OmegaConf.register_new_resolver("thaw.direction", direction, replace=True)


def options_of(*, _root_: DictConfig) -> str:
    """Returns the options of a config for `--help`, see `thaw.cli.help.options_help`."""
    from thaw.cli.help import options_help  # not loaded without --help

    return options_help(_root_)
