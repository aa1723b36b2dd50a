"""Fine-tuning of representation models: Lightning does the training, Hydra the configuration."""

__version__ = "0.2.0.dev0"
