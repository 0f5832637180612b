#!/bin/bash
# A benchmark by 16 commands at a time, each with a GPU of its own, over one folder.
#
#   sbatch examples/slurm.sh MODEL DATA OUT [further options of bench]
#
# The folder OUT and the data lie where all nodes see them. A command that was killed costs what it had
# under way: submit the same line again, and what is there is not done again. The last one to end
# writes scores.json and report.html; if it was killed, any of them does when it is started again.

#SBATCH --job-name=shiftproof
#SBATCH --array=0-15
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --output=shiftproof-%A-%a.log

set -euo pipefail

model=$1 data=$2 out=$3
shift 3

exec shiftproof bench --model "$model" --data "$data" --out "$out" \
    --worker "$SLURM_ARRAY_TASK_ID" --of "$SLURM_ARRAY_TASK_COUNT" \
    --workers "$((${SLURM_CPUS_PER_TASK:-8} - 1))" "$@"
