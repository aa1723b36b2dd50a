"""Fine-tuning of representation models: Lightning does the training, Hydra the configuration."""

__version__ = "0.1.0"
