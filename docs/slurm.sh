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
# Two minutes before the time is over, the run saves and requeues its job, which goes on with it:
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
cd "$SLURM_SUBMIT_DIR" # the clone, with its .venv, on a file system that all machines see
. .venv/bin/activate
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# The job's run directory: of an array each task has its own, and one that is typed replaces it.
run=outputs/slurm-${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}
for word in "$@"; do
  case $word in resume=* | hydra.run.dir=*) run=${word#*=} ;; esac
done
# A job that was requeued finds its run there.
if [ -e "$run/versions.json" ]; then set -- "$@" "resume=$run"; fi
# Secrets come from the environment: HF_TOKEN, WANDB_API_KEY.
srun python train.py trainer=ddp "hydra.run.dir=$run" \
  trainer.devices="$SLURM_NTASKS_PER_NODE" trainer.num_nodes="$SLURM_NNODES" "$@"
