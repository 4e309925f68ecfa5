#!/usr/bin/env bash
# What a device makes of training and growing, in at most four minutes: gpu.sh DEVICE [FOLDER]
#
# Checks that a short training that grows has the same losses on DEVICE (`cuda:0`, `vulkan`, ...) as on `flex`, and that its
# events are verified; times training steps, beside PyTorch's where `python3` has it; and says what growth events cost in steps.
# FOLDER holds the binaries `gradmax` and `training_step`, for machines that cannot build them; they are built if it is left out.
set -euo pipefail
device="${1:?usage: benches/gpu.sh DEVICE [FOLDER]}"
here="$(cd "$(dirname "$0")" && pwd)"
cd "$here/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
if [ $# -gt 1 ]; then
  binaries="$(realpath "$2")"
else
  features="${device%%:*}"
  [ "$features" = flex ] && features=() || features=(--features "$features")
  binaries="$work/binaries"
  mkdir "$binaries"
  built() {
    cargo "$@" --message-format json "${features[@]}" \
      | python3 -c 'import json, sys; print([line["executable"] for line in map(json.loads, sys.stdin) if line.get("executable")][-1])'
  }
  ln -s "$(built bench -p gradmax-experiments --bench training_step --no-run)" "$binaries/training_step"
  ln -s "$(built build --release -p gradmax-cli)" "$binaries/gradmax"
fi

grow() {
  "$binaries/gradmax" train configs/cifar10_wrn28.toml --device "$1" --quiet --out "$work/$1" --set data.name=digits \
    --set data.as=cifar --set training.steps=40 --set training.log_every=1 --set training.warm_up_steps=20 \
    --set optimizer.learning_rate=0.02 --set growth.start=10 --set growth.every=10 --set growth.times=3 > /dev/null
}
grow flex
[ "$device" = flex ] || grow "$device"
python3 - "$work" "$device" <<'PYTHON'
import csv, json, sys

work, device = sys.argv[1:]


def losses(name):
    with open(f"{work}/{name}/metrics.csv") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["split"] == "train"][:30]


ours, flex = losses(device), losses("flex")
furthest = max(abs(a - b) / b for a, b in zip(ours, flex))
print(f"losses of 30 steps, three growth events among them: within {furthest:.1e} of those on flex (allowed: 2e-2)")
with open(f"{work}/{device}/growth.jsonl") as file:
    for receipt in map(json.loads, file):
        timing, sites = receipt["timing"], receipt["sites"]
        off = max(abs(s["gradient_norm"] - s["predicted_gradient_norm"]) / s["gradient_norm"] for s in sites)
        print(
            f"event of {len(sites)} sites: {timing['growth']:.0f} ms, {timing['growth_in_steps']:.1f} training steps; "
            f"output change {receipt['output_change']:.0e}, gradients within {off:.0e} of their prediction"
        )
sys.exit(0 if furthest < 2e-2 else "the losses differ")
PYTHON

names=(wrn28_0.25 wrn28_1.0 vgg11_1.0 mlp_784_128_128_10 mlp_20_10_10)
"$binaries/training_step" --device "$device" "${names[@]}"
if python3 -c 'import torch' 2> /dev/null; then
  torch_device=cpu
  [ "$device" = flex ] || torch_device=cuda
  for name in "${names[@]}"; do
    # Steps to warm up, then those that count.
    printf '5\n20\n' | python3 benches/vs_pytorch/torch_step.py "$name" "$(nproc)" "$torch_device" | python3 -c '
import statistics, sys
steps = [float(value) for value in sys.stdin.read().split("\n")[2].split()]
print(f"{sys.argv[1]:<22} median {statistics.median(steps) * 1e3:>10.3f} ms in PyTorch")' "$name"
  done
fi
