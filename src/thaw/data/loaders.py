"""Batches of encoded splits, on any number of ranks, and the place in an epoch to resume from."""

from typing import Any

import torch
from datasets import Dataset
from lightning.pytorch import LightningDataModule
from pydantic import NonNegativeInt, PositiveInt
from torch.utils.data import DataLoader, Sampler

from thaw.data.batch.samplers import LengthGroupedBatches
from thaw.errors import ThawError


class Loaders(LightningDataModule):
    """Loads each split in batches of similar length, in an order of (seed, epoch).

    Args:
        batch_size: texts per rank and batch of train.
        eval_batch_size: likewise, of the other splits.
        num_workers: number of processes that make batches.
        seed: of the order of batches.
        only: the one split that is read, and tested, where a finished run is evaluated; None: all.
    """

    def __init__(
        self,
        batch_size: PositiveInt = 16,
        eval_batch_size: PositiveInt = 64,
        num_workers: NonNegativeInt = 0,
        seed: int = 0,
        only: str | None = None,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.only = only
        # What batches are made of, by split, with a column `length` in tokens.
        self.encoded: dict[str, Dataset] = {}
        self.epoch = self.start = 0

    def collate(self, batch: dict[str, list] | list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Returns a batch of encoded rows (see `rowwise`) as tensors."""
        raise NotImplementedError

    def train_dataloader(self) -> DataLoader:
        loader = self.loader("train", self.batch_size, shuffle=True)
        sampler: Any = loader.sampler
        if hasattr(sampler, "start"):
            sampler.start = self.start
            sampler.set_epoch(self.first_epoch())  # workers do not wait for Lightning to set it
        self.start = 0
        return loader

    def first_epoch(self) -> int:
        """Returns the epoch of a new loader: a resumed run makes it before the trainer knows."""
        return max(self.epoch, self.trainer.current_epoch) if self.trainer else self.epoch

    def val_dataloader(self) -> DataLoader | list:
        return self.eval_loader("validation")

    def test_dataloader(self) -> DataLoader | list:
        return self.eval_loader(self.only or "test")

    def eval_loader(self, split: str) -> DataLoader | list:
        """Returns the batches of an evaluated split, none if there is no such split."""
        return self.loader(split, self.eval_batch_size) if split in self.encoded else []

    def ranks(self) -> dict[str, int]:
        """Returns `rank` and `world_size` of this process."""
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def loader(self, split: str, batch_size: int, shuffle: bool = False) -> DataLoader:
        """Returns batches of `collate`, with `row` (B,) among them."""
        data: Any = self.encoded[split]
        if len(data) < (processes := self.ranks()["world_size"]):
            raise ThawError(f"{split} has {len(data)} texts, fewer than {processes} processes.")
        if self.trainer and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            # The same batches in every epoch; Lightning wants a SequentialSampler for it.
            return DataLoader(data, batch_size, collate_fn=self.collate)
        sampler = self.batches(split, batch_size, shuffle)
        return self.whole_batches(data, sampler=sampler, collate_fn=self.collate)

    def whole_batches(self, data: Any, **options: Any) -> DataLoader:
        """Returns a loader of what yields whole batches: `batch_size` None fetches each at once."""
        return DataLoader(
            data,
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def batches(self, split: str, batch_size: int, shuffle: bool) -> Sampler[list[int]]:
        """Returns the row numbers of each batch of this rank."""
        lengths = self.encoded[split].data.column("length").to_numpy()
        return LengthGroupedBatches(lengths, batch_size, self.seed, shuffle, **self.ranks())

    def state_dict(self) -> dict[str, Any]:
        """Returns the epoch, and how many batches of it are done, for a checkpoint."""
        if self.trainer is None:
            return {"epoch": 0, "start": 0}
        loop = self.trainer.fit_loop.epoch_loop
        progress: Any = loop.batch_progress.current
        # After the last batch there is a validation at most, and then another epoch.
        over = progress.ready == progress.completed and loop._num_ready_batches_reached()
        return {"epoch": self.trainer.current_epoch, "start": 0 if over else progress.completed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epoch, self.start = state_dict["epoch"], state_dict["start"]


def rowwise(batch: dict[str, list] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns a batch as rows: `datasets` gives columns where several rows are asked for."""
    if isinstance(batch, list):
        return batch
    return [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
