#!/usr/bin/env bash
# Networks of every kind, exported and run by other programs, which must give the same outputs, and read back. What it needs of
# Python is installed into an environment of its own, outside of the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
environment="${XDG_CACHE_HOME:-$HOME/.cache}/gradmax-interop"
if [ ! -e "$environment/ready-4" ]; then
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet numpy onnxruntime==1.32.0 torch==2.15.0 safetensors pandas tensorboard==2.21.0 playwright==1.65.2 transformers==5.24.0
  touch "$environment/ready-4"
fi
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
cargo build --release --quiet -p gradmax-cli -p gradmax-experiments --bins --examples
built="${CARGO_TARGET_DIR:-target}/release"
python="$environment/bin/python"

"$built/examples/interop" export "$out"
echo "ONNX models in onnxruntime:"
"$python" interop/compare_onnx.py "$out"
echo "Safetensors in PyTorch:"
"$python" interop/compare_pytorch.py "$out"
echo "Transformers in Hugging Face's library:"
"$python" interop/compare_huggingface.py "$out"
echo "What PyTorch saved, read back and grown:"
"$built/examples/interop" import "$out"
echo "A table of pandas', and its ONNX model with the data's treatment in it:"
"$python" interop/compare_table.py "$out" "$built/gradmax"
echo "Event files in TensorBoard's reader:"
"$python" interop/read_tensorboard.py "$out" "$built/gradmax"
echo "Networks that PyTorch has trained on digits, grown by half:"
seeds=5
"$python" interop/digits.py "$out" "$seeds"
cp interop/digits.toml "$out"
for seed in $(seq 0 $((seeds - 1))); do
  "$built/gradmax" train "$out/digits.toml" --set network.from="$out/seed$seed.pt" --seed "$seed" --out "$out/run$seed" --quiet > /dev/null
done
"$python" interop/compare_digits.py "$out"
if chromium="$(command -v chromium)"; then
  echo "Reports and the live page in Chromium:"
  "$python" interop/browser.py "$out/browser" "$built/gradmax" "$chromium"
else
  echo "Chromium is not there: reports and the live page are not looked at"
  [ -z "${GRADMAX_REQUIRE_DATA:-}" ]
fi
