"""The program of `python train.py program=helpers.poisoned.train`: the losses of rank 1 are not
finite in the batches whose numbers `POISON` lists."""

import os

from thaw.tasks.sequence import SequenceClassification


def train(cfg):
    from thaw.train import train

    step = SequenceClassification.training_step
    bad = [int(number) for number in os.environ["POISON"].split(",")]

    def training_step(self, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        return loss * float("nan") if self.global_rank == 1 and batch_idx in bad else loss

    SequenceClassification.training_step = training_step
    return train(cfg)
