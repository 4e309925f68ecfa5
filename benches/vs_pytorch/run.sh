#!/usr/bin/env bash
# Training steps of gradmax beside PyTorch's, in turns: run.sh [--only NAME]... [--threads N]... [--device NAME] [--json FILE]
# PyTorch is installed into an environment of its own, outside of the repository.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
environment="${XDG_CACHE_HOME:-$HOME/.cache}/gradmax-pytorch"
if [ ! -e "$environment/ready" ]; then
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet torch==2.15.0 numpy
  touch "$environment/ready"
fi
arguments=()
while [ $# -gt 0 ]; do
  if [ "$1" = --json ]; then
    arguments+=(--json "$(realpath -m "$2")")
    shift 2
  else
    arguments+=("$1")
    shift
  fi
done
cd "$here/../.."
binary="$(cargo bench -p gradmax-experiments --bench training_step --no-run --message-format json \
  | python3 -c 'import json, sys; print([line["executable"] for line in map(json.loads, sys.stdin) if line.get("executable")][-1])')"
cd "$here"
exec "$environment/bin/python" compare.py --binary "$binary" "${arguments[@]}"
