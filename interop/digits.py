"""Trains a network on the digits in PyTorch until it learns no more, and writes it for gradmax to go on with: the tables
`train.csv` and `test.csv`, for each seed `seedN.pt`, and the accuracies on the test rows in `accuracies.json`."""

import gzip
import json
import pathlib
import sys

import numpy
import torch

DIGITS = pathlib.Path(__file__).parent.parent / "crates/gradmax-experiments/assets/digits.csv.gz"


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(64, 8)
        self.fc2 = torch.nn.Linear(8, 10)

    def forward(self, inputs):
        return self.fc2(torch.relu(self.fc1(inputs)))


def trained(seed, inputs, classes):
    torch.manual_seed(seed)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(100):
        for batch in torch.randperm(len(inputs)).split(32):
            loss = torch.nn.functional.cross_entropy(network(inputs[batch]), classes[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network


def main(folder, seeds):
    folder = pathlib.Path(folder)
    with gzip.open(DIGITS, "rt") as file:
        rows = numpy.loadtxt(file, delimiter=",", dtype=int)
    rows = rows[numpy.random.default_rng(0).permutation(len(rows))]
    test = len(rows) // 5
    header = ",".join([f"pixel{at}" for at in range(64)] + ["digit"])
    for name, part in [("train", rows[test:]), ("test", rows[:test])]:
        numpy.savetxt(folder / f"{name}.csv", part, fmt="%d", delimiter=",", header=header, comments="")
    # As gradmax reads tables: columns standardised by the training rows.
    mean, deviation = rows[test:, :64].mean(0), rows[test:, :64].std(0)
    inputs = torch.tensor((rows[:, :64] - mean) / numpy.where(deviation > 0, deviation, 1), dtype=torch.float32)
    classes = torch.tensor(rows[:, 64])
    accuracies = []
    for seed in range(seeds):
        network = trained(seed, inputs[test:], classes[test:])
        torch.save({"epoch": 100, "model": network.state_dict()}, folder / f"seed{seed}.pt")
        with torch.no_grad():
            accuracies.append((network(inputs[:test]).argmax(1) == classes[:test]).float().mean().item())
    (folder / "accuracies.json").write_text(json.dumps(accuracies))


main(sys.argv[1], int(sys.argv[2]))
