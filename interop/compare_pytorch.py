"""Rebuilds the networks of a folder in PyTorch by the Python beside their weights, compares their outputs with those of
gradmax, and saves each as PyTorch does, for gradmax to read."""

import importlib.util
import pathlib
import sys

import numpy
import torch

# The largest difference that is rounding, relative to the largest output.
TOLERANCE = 1e-5


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def main(folder):
    failed = []
    paths = sorted(pathlib.Path(folder).glob("*.py"))
    for path in paths:
        lines = len(path.read_text().splitlines())
        network = module(path).load()
        read = lambda what: numpy.fromfile(path.with_suffix(what), numpy.float32)
        if (tokens := path.with_suffix(".tokens")).exists():
            inputs = torch.from_numpy(numpy.fromfile(tokens, numpy.int32)).long().reshape(100, -1)
        else:
            shape = [int(size) for size in path.read_text().split("[examples, ")[1].split("]")[0].split(", ")]
            inputs = torch.from_numpy(read(".inputs").reshape(-1, *shape))
        with torch.no_grad():
            found = network(inputs).numpy()
        expected = read(".outputs").reshape(found.shape)
        difference = numpy.abs(found - expected).max() / numpy.abs(expected).max()
        torch.save(network.state_dict(), path.with_suffix(".pt"))
        good = difference <= TOLERANCE and len(inputs) >= 100 and lines <= 100
        print(f"{path.stem:<22} {len(inputs)} inputs, largest relative difference {difference:.1e}", "" if good else "WRONG")
        failed += [] if good else [path.stem]
    if failed or not paths:
        sys.exit(f"PyTorch and gradmax disagree on: {', '.join(failed) or 'nothing was compared'}")


main(sys.argv[1])
