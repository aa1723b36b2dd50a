import lightning.pytorch as pl
import pytest
import torch

from thaw.training.callbacks.best_checkpoint import BestCheckpoint


class Scored(pl.LightningModule):
    """A model whose validations have given scores and losses."""

    def __init__(self, scores, losses):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.scores, self.losses = scores, losses

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def validation_step(self, batch, batch_idx):
        self.log("val/f1", self.scores[self.current_epoch])
        self.log("val/loss", self.losses[self.current_epoch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize(
    ("scores", "losses", "best"),
    [
        ([0.5, 0.5, 0.5], [3.0, 1.0, 2.0], 2),
        ([0.5, 0.5, 0.4], [1.0, 2.0, 0.5], 1),
        ([0.5, 0.6, 0.6], [0.1, 3.0, 2.0], 3),
        ([0.5, 0.4, 0.6], [0.1, 0.2, 3.0], 3),
    ],
)
def test_of_equal_scores_the_weights_with_the_lowest_loss_are_kept(tmp_path, scores, losses, best):
    texts = torch.utils.data.DataLoader(torch.ones(1, 1))
    keeps = BestCheckpoint(dirpath=tmp_path, monitor="val/f1", mode="max", filename="best")
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        max_epochs=len(scores),
        callbacks=[keeps],
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Scored(scores, losses), texts, texts)
    assert torch.load(keeps.best_model_path, weights_only=True)["global_step"] == best
    resumed = BestCheckpoint(dirpath=tmp_path, monitor="val/f1", mode="max", filename="best")
    resumed.load_state_dict(keeps.state_dict())
    assert resumed.loss == losses[best - 1]


def test_a_run_that_lightnings_checkpoint_began_goes_on_from_its_best(tmp_path):
    options = {"dirpath": tmp_path, "monitor": "val/f1", "mode": "max", "filename": "best"}
    before, now = pl.callbacks.ModelCheckpoint(**options), BestCheckpoint(**options)
    assert now.state_key == before.state_key
    before.best_model_score = torch.tensor(0.5)
    before.best_model_path = before.kth_best_model_path = str(tmp_path / "best.ckpt")
    before.best_k_models = {before.best_model_path: before.best_model_score}
    now.load_state_dict(before.state_dict())
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    for score, better in ((0.5, False), (0.6, True)):
        assert now.check_monitor_top_k(trainer, torch.tensor(score)) is better
