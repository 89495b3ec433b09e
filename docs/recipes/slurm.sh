#!/bin/bash
# One elman process per node; JAX reads from SLURM who they are. `sbatch docs/recipes/slurm.sh`; again after the time limit or a node
# that failed, and it goes on from the last checkpoint (--requeue does so by itself).
#SBATCH --job-name=elman
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=INT@120    # two minutes before the end: a checkpoint is written, the run can go on

RUN=/shared/runs/corpus     # a folder that process 0 can write to
TEXT=/shared/corpus.txt     # the same path on every node

if [ -e "$RUN/config.toml" ]; then
  srun elman train --resume "$RUN" --distributed
else
  srun elman train text "$TEXT" --run "$RUN" --hidden 512 --batch 256 --minutes 600 --distributed
fi
