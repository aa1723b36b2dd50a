"""Fine-tune an encoder: `python train.py GROUP=CHOICE KEY=VALUE`; `--help` lists every choice."""

import sys

import hydra
from omegaconf import DictConfig

from thaw.cli.compose import register_resolvers
from thaw.cli.exit import exit_clearly
from thaw.cli.resume import command_to_resume
from thaw.cli.secrets import redacted_config


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Hands the composed config to its program, `thaw.train.train` by default."""
    from thaw.cli.check import checked
    from thaw.cli.jobs import is_done
    from thaw.cli.processes import finish_process_group, require_world
    from thaw.cli.subprocess_job import run_apart, runs_apart

    if is_done(cfg):
        return None
    require_world(cfg)
    cfg = checked(cfg)
    if runs_apart(cfg):
        return run_apart(cfg)
    # Imported here: --help and a mistake in an option are answered without loading torch.
    value = hydra.utils.get_method(cfg.program)(cfg)
    finish_process_group()
    return value


def show_blocks(argv: list[str]) -> None:
    """After `--cfg job`: which blocks train, as comments below the config."""
    if "job" in argv[1:] and argv[argv.index("job") - 1] in ("--cfg", "-c"):
        from thaw.encoder.blocks import parameter_table
        from thaw.parameters import frozen_task

        words = [word for word in argv if "=" in word and not word.startswith(("-", "hydra."))]
        print(
            "".join(f"# {line}\n" for line in parameter_table(frozen_task(words)).splitlines()),
            end="",
        )


if __name__ == "__main__":
    register_resolvers()
    with exit_clearly():
        sys.argv[1:] = command_to_resume(sys.argv[1:])
        with redacted_config(sys.argv[1:]):
            main()
        show_blocks(sys.argv[1:])
