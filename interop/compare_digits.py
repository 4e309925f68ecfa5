"""Compares the accuracies of networks that gradmax has grown with those that PyTorch left them at (digits.py)."""

import json
import pathlib
import statistics
import sys


def main(folder):
    before = json.loads((folder / "accuracies.json").read_text())
    last = lambda seed: json.loads((folder / f"run{seed}" / "summary.json").read_text())
    after = [last(seed)["final_test_score"] for seed in range(len(before))]
    differences = [100 * (grown - imported) for grown, imported in zip(after, before)]
    error = statistics.stdev(differences) / len(differences) ** 0.5
    print(
        f"{len(before)} networks: {100 * statistics.mean(before):.2f} % in PyTorch, {100 * statistics.mean(after):.2f} % grown "
        f"to {last(0)['widths']}; difference {statistics.mean(differences):+.2f} +- {error:.2f}"
    )
    # As computed from counts: what is equal differs by rounding.
    if statistics.mean(differences) < -1e-4:
        sys.exit("networks that were grown on do worse than before")


main(pathlib.Path(sys.argv[1]))
