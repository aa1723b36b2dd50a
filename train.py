"""Fine-tune an encoder: `python train.py GROUP=CHOICE KEY=VALUE`; `--help` lists every choice."""

import hydra
from omegaconf import DictConfig

from thaw.cli import exit_clearly, register_resolvers


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Hands the composed config to its program, `thaw.train.train` by default."""
    from thaw.sweep import finished

    if finished(cfg):
        return None
    # Imported here: --help and a mistyped option answer without loading torch.
    return hydra.utils.get_method(cfg.program)(cfg)


if __name__ == "__main__":
    register_resolvers()
    with exit_clearly():
        main()
