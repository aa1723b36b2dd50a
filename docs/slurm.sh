#!/bin/bash
# sbatch docs/slurm.sh task=sequence data=sst2 trainer.max_epochs=3
# Two machines with four GPUs each. trainer.devices and trainer.num_nodes follow from the lines here.
#SBATCH --job-name=thaw
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --output=slurm-%j.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR" # the clone, with its .venv, on a file system that all machines see
. .venv/bin/activate
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
# Secrets come from the environment: HF_TOKEN, WANDB_API_KEY.
srun python train.py trainer=ddp \
  trainer.devices="$SLURM_NTASKS_PER_NODE" trainer.num_nodes="$SLURM_NNODES" "$@"
