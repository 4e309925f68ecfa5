"""Times training steps of gradmax and of PyTorch in turns, and prints their ratios.

Both run as processes that stay; each takes a few steps, then waits while the other does, so that whatever else the machine does
falls on both.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

NETWORKS = [
    "wrn28_0.25", "wrn28_0.5", "wrn28_1.0", "wrn28_bn_0.25", "wrn28_bn_1.0",
    "vgg11_0.25", "vgg11_1.0", "vgg11_bn_0.25", "vgg11_bn_1.0", "mobilenet_32", "mobilenet_224",
    "mlp_20_10_10", "mlp_100_50_10", "mlp_784_128_128_10", "gpt_128_4", "gpt_256_6",
]
LAYERS = [f"layer_{sizes}_{which}" for sizes in ("16x32", "32x16", "64x8") for which in ("forward", "input", "weight")]
# The device that PyTorch takes beside each of ours; the CPU beside all others.
TORCH_DEVICES = {"cuda": "cuda", "vulkan": "cuda"}
WARM_UP = 3
# Seconds that each side's turns take together, about, and the least number of steps.
SECONDS = 3.0
LEAST = 15


class Side:
    """A process that takes steps when it is asked to."""

    def __init__(self, command, environment):
        environment = {**os.environ, **environment}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"{command} did not start")

    def steps(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        seconds = [float(value) for value in self.process.stdout.readline().split()]
        if len(seconds) != count:
            sys.exit(f"{self.process.args} broke off")
        return seconds

    def peak_megabytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(binary, name, threads, device):
    ours = Side([binary, "--device", device, "serve", name], {"RAYON_NUM_THREADS": str(threads)})
    torch = Side([sys.executable, "torch_step.py", name, str(threads), TORCH_DEVICES.get(device.split(":")[0], "cpu")], {"OMP_NUM_THREADS": str(threads)})
    sides = [ours, torch]
    started = [side.peak_megabytes() for side in sides]
    one = max(min(side.steps(WARM_UP)) for side in sides)
    turns = max(5, min(15, int(SECONDS / one)))
    each = max(-(-LEAST // turns), min(200, int(SECONDS / turns / one)))
    seconds = [[], []]
    for _ in range(turns):
        for mine, side in zip(seconds, sides):
            mine += side.steps(each)
    medians = [statistics.median(mine) for mine in seconds]
    # What the steps need: PyTorch alone takes some hundred megabytes before the first.
    memory = [side.peak_megabytes() - before for side, before in zip(sides, started)]
    peaks = [side.peak_megabytes() for side in sides]
    for side in sides:
        side.close()
    return {
        "name": name,
        "threads": threads,
        "steps": turns * each,
        "ours_seconds": medians[0],
        "torch_seconds": medians[1],
        "ratio": medians[0] / medians[1],
        "ours_step_megabytes": round(memory[0]),
        "torch_step_megabytes": round(memory[1]),
        "ours_peak_megabytes": round(peaks[0]),
        "torch_peak_megabytes": round(peaks[1]),
    }


def layer_rate(name, seconds):
    channels, size = map(int, name.split("_")[1].split("x"))
    return 2 * 128 * channels * channels * 9 * size * size / seconds / 1e9


def fma_peak(binary):
    line = subprocess.run([binary, "fma_peak"], capture_output=True, text=True, check=True).stdout
    return float(line.split()[-2])


def row(result, peak):
    cells = [
        result["name"],
        str(result["threads"]),
        f"{result['ours_seconds'] * 1e3:.2f}",
        f"{result['torch_seconds'] * 1e3:.2f}",
        f"{result['ratio']:.2f}",
    ]
    if result["name"].startswith("layer"):
        rates = [layer_rate(result["name"], result[f"{side}_seconds"]) for side in ("ours", "torch")]
        share = rates[0] / (peak * result["threads"])
        cells += [f"{rates[0]:.0f} and {rates[1]:.0f} GFLOP/s; ours is {share:.0%} of the peak"]
    else:
        cells += [f"{result['ours_step_megabytes']} and {result['torch_step_megabytes']} MB"]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--only", action="append", help="a benchmark; may be given more than once")
    parser.add_argument("--threads", type=int, action="append", help="1 and 2 unless given")
    parser.add_argument("--device", default="flex", help="ours; PyTorch takes the same")
    parser.add_argument("--json", help="where to write the results")
    arguments = parser.parse_args()
    names = arguments.only or NETWORKS + LAYERS
    peak = fma_peak(arguments.binary)
    print(f"Peak of a core, fused multiply-adds in registers: {peak:.0f} GFLOP/s.\n")
    print("| step | threads | ours, ms | PyTorch, ms | ratio | memory of steps; or rate |")
    print("| --- | ---: | ---: | ---: | ---: | --- |", flush=True)
    results = []
    for threads in arguments.threads or [1, 2]:
        for name in names:
            results.append(compare(arguments.binary, name, threads, arguments.device))
            print(row(results[-1], peak), flush=True)
            if arguments.json:
                with open(arguments.json, "w") as file:
                    json.dump(results, file, indent=1)


main()
