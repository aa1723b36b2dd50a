"""Options of other tools that users type, and what does the same here.

`docs/coming-from.md` has the same tables.
"""

from collections.abc import Sequence

from thaw.cli.overrides import key_of
from thaw.errors import ThawError

TRAINER, SETFIT, TEMPLATE = "transformers.Trainer", "setfit", "lightning-hydra-template"
# An option as it is typed there, and the overrides, or the command, that do the same here.
COMING_FROM = {
    TRAINER: {
        "model_name_or_path=bert-base-cased": "model=bert_base_cased",
        "train_file=train.csv": "data=files data.train=train.csv",
        "text_column_name=text": "data.text=text",
        "label_column_name=label": "data.label=label",
        "max_seq_length=256": "data.max_tokens=256",
        "max_length=256": "data.max_tokens=256",
        "output_dir=out": "hydra.run.dir=out",
        "resume_from_checkpoint=out": "resume=out",
        "learning_rate=2e-5": "task.learning_rate=2e-5",
        "num_train_epochs=3": "trainer.max_epochs=3",
        "max_steps=1000": "trainer.max_steps=1000",
        "per_device_train_batch_size=16": "data.batch_size=16",
        "per_device_eval_batch_size=64": "data.eval_batch_size=64",
        "gradient_accumulation_steps=4": "trainer.accumulate_grad_batches=4",
        "gradient_checkpointing=true": "model.gradient_checkpointing=true",
        "optim=adafactor": "optimizer=adafactor",
        "adam_beta2=0.98": "optimizer.betas=[0.9,0.98]",
        "adam_epsilon=1e-6": "optimizer.eps=1e-6",
        "weight_decay=0.01": "task.weight_decay=0.01",
        "lr_scheduler_type=cosine": "schedule=cosine",
        "warmup_ratio=0.1": "task.warmup_ratio=0.1",
        "warmup_steps=100": "task.warmup_steps=100",
        "max_grad_norm=1.0": "trainer.gradient_clip_val=1.0",
        "label_smoothing_factor=0.1": "task.label_smoothing=0.1",
        "mlm_probability=0.15": "task=mlm task.mask_probability=0.15",
        "fp16=true": "trainer.precision=16-mixed",
        "bf16=true": "trainer.precision=bf16-mixed",
        "torch_compile=true": "trainer.compile=true",
        "use_cpu=true": "trainer.accelerator=cpu",
        "no_cuda=true": "trainer.accelerator=cpu",
        "dataloader_num_workers=4": "data.num_workers=4",
        "eval_strategy=epoch": "trainer.val_check_interval=1.0",
        "evaluation_strategy=epoch": "trainer.val_check_interval=1.0",
        "eval_steps=500": "trainer.val_check_interval=500",
        "logging_steps=10": "trainer.log_every_n_steps=10",
        "save_strategy=epoch": "callbacks=default",
        "save_steps=500": "callbacks.checkpoint.every_n_train_steps=500",
        "save_total_limit=1": "callbacks.best.save_top_k=1",
        "load_best_model_at_end=true": "callbacks=default",
        "metric_for_best_model=accuracy": "monitor=val/accuracy",
        "greater_is_better=true": "monitor_mode=max",
        "early_stopping_patience=3": "callbacks.early_stopping.patience=3",
        "report_to=wandb": "logger=wandb",
        "disable_tqdm=true": "trainer.enable_progress_bar=false",
    },
    SETFIT: {
        "samples_per_label=16": "task=setfit task.shots=16",
        "num_samples=16": "task=setfit task.shots=16",
        "num_iterations=20": "task=setfit task.pairs=sampled task.num_iterations=20",
        "sampling_strategy=unique": "task=setfit task.pairs=sampled task.sampling=unique",
        "num_epochs=1": "task=setfit trainer.max_epochs=1",
        "body_learning_rate=2e-5": "task=setfit task.learning_rate=2e-5",
        "head_learning_rate=1e-2": "task=setfit task.head=differentiable "
        "task.head_learning_rate=1e-2",
        "use_differentiable_head=true": "task=setfit task.head=differentiable",
        "end_to_end=true": "task=setfit task.head=differentiable task.joint_ratio=0.5",
        "warmup_proportion=0.1": "task=setfit task.warmup_ratio=0.1",
        "l2_weight=0.01": "task=setfit task.weight_decay=0.01",
    },
    TEMPLATE: {
        "ckpt_path=logs/train/runs/1/checkpoints/last.ckpt": "resume=outputs/2026-01-01/12-00-00",
        "model.optimizer.lr=0.001": "task.learning_rate=0.001",
        "model.optimizer.weight_decay=0.01": "task.weight_decay=0.01",
        "model.scheduler": "schedule=cosine",
        "model.compile=true": "trainer.compile=true",
        "train=false": "python -m thaw.evaluate run=outputs/2026-01-01/12-00-00",
        "test=false": "trainer.limit_test_batches=0",
        "trainer=cpu": "trainer.accelerator=cpu",
        "trainer=gpu": "trainer.accelerator=gpu",
        "trainer=mps": "trainer.accelerator=mps",
        "trainer=ddp_sim": "trainer=ddp trainer.accelerator=cpu",
        "debug=default": "debug=fast",
        "debug=fdr": "trainer.fast_dev_run=true",
        "debug=limit": "debug=fast",
        "debug=profiler": "trainer.profiler=simple",
        "logger=many_loggers": "logger=default",
        "data.train_val_test_split=[0.8,0.1,0.1]": "data.validation=0.1 data.test=0.1",
        "callbacks.model_checkpoint.monitor=val/loss": "monitor=val/loss",
        "callbacks.model_checkpoint.save_top_k=1": "callbacks.best.save_top_k=1",
        "optimized_metric=val/f1": "monitor=val/f1",
        "task_name=mine": "hydra.run.dir=outputs/mine",
    },
}


def said_here(typed: str) -> str:
    """Returns a sentence with what an option of another tool is called here, "" for others.

    Args:
        typed: an override, or its key alone.
    """
    typed = typed.lstrip("+-")
    key = typed.partition("=")[0].replace("-", "_")
    rows = {there: (tool, here) for tool, t in COMING_FROM.items() for there, here in t.items()}
    # A choice of a group, such as trainer=gpu, is meant itself, an option whatever its value is.
    choices = ("trainer=", "debug=", "logger=")
    names = {t.partition("=")[0]: t for t in rows if not t.startswith(choices)}
    there = typed if typed in rows else names.get(key) or names.get(key.rpartition(".")[2])
    if there is None:
        return ""
    tool, here = rows[there]
    return f"{there} of {tool} is `{here}` here; docs/coming-from.md has more."


def refuse_options_of_others(words: Sequence[str]) -> None:
    """Raises ThawError for options that another tool has and Hydra would take as they are: new
    keys, such as +fp16=true, and flags, such as --fp16."""
    for word in words:
        taken = word.startswith("--") or (word.startswith("+") and "." not in key_of(word))
        if taken and (said := said_here(word)):
            raise ThawError(f"there is no option {word}. {said}")
