#!/usr/bin/env bash
# The paper's tables on a machine with a GPU, from the packed sets, with all repeats of an arm at once.
#
#     python benchmarks/reproduction.py --data DIR --pack PACKED    # here: three files, 24 to 37 MiB each
#     benchmarks/device_tables.sh PACKED OUT                        # there
#     python benchmarks/reproduction.py --output OUT --collect      # here
#
# Needs the dependencies of hardmil, but not hardmil itself. Finished rows are copied to OUT every 15 seconds, so
# that a run that is stopped loses little. Start again with the collected rows: trials that have a row are not
# run again. Further options go to benchmarks/reproduction.py; RUNS names other runs than all of the paper's.
#
#     RUNS=paper benchmarks/device_tables.sh PACKED OUT --device cpu --population 2 --trial
set -euo pipefail
data=$(realpath "$1") out=$(realpath -m "$2")
shift 2
cd "$(dirname "$0")/.."
export PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
work=$(mktemp -d)

copy_rows() {
  for table in "$work"/*/results.csv "$work"/*/predictions.csv; do
    if [ -f "$table" ]; then
      mkdir -p "$out/$(basename "$(dirname "$table")")"
      cp "$table" "$out/$(basename "$(dirname "$table")")/"
    fi
  done
}
(while sleep 15; do copy_rows; done) &
copying=$!
trap 'kill "$copying"; copy_rows; rm -rf "$work"' EXIT

for run in ${RUNS:-paper paper-group paper-grid paper-oof}; do
  ${PYTHON:-python3} benchmarks/reproduction.py --data "$data" --output "$work" --run "$run" --repeats-at-once "$@"
done
