#!/usr/bin/env bash
# Networks of every kind, exported and run by other programs, which must give the same outputs. What it needs of Python is
# installed into an environment of its own, outside of the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
environment="${XDG_CACHE_HOME:-$HOME/.cache}/gradmax-interop"
if [ ! -e "$environment/ready" ]; then
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet numpy onnxruntime==1.32.0
  touch "$environment/ready"
fi
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
cargo run --release --quiet -p gradmax-experiments --example interop -- "$out"
"$environment/bin/python" interop/compare_onnx.py "$out"
