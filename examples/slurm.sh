#!/bin/bash
# A benchmark with 16 commands in parallel, each on its own GPU, writing to one folder.
#
#   sbatch examples/slurm.sh MODEL DATA OUT [further options of bench]
#
# All nodes need access to the folder OUT and to the data. If a command is killed, only its unfinished
# parts are lost: submit the same line again, and finished parts are not repeated. The last command to
# end writes scores.json and report.html. If it was killed, any command does so when it is started again.

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
