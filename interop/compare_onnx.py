"""Runs the ONNX models of a folder in onnxruntime, and compares their outputs with those of gradmax."""

import pathlib
import sys

import numpy
import onnxruntime

# The largest difference that is rounding, relative to the largest output.
TOLERANCE = 1e-5


def main(folder):
    failed = []
    models = sorted(pathlib.Path(folder).glob("*.onnx"))
    for path in models:
        session = onnxruntime.InferenceSession(path)
        shape = [size if isinstance(size, int) else -1 for size in session.get_inputs()[0].shape]
        read = lambda what: numpy.fromfile(path.with_suffix(what), numpy.float32)
        inputs = read(".inputs").reshape(shape)
        found = session.run(None, {"input": inputs})[0]
        expected = read(".outputs").reshape(found.shape)
        difference = numpy.abs(found - expected).max() / numpy.abs(expected).max()
        one = session.run(None, {"input": inputs[:1]})[0]
        alone = numpy.abs(one - found[:1]).max() / numpy.abs(expected).max()
        good = difference <= TOLERANCE and alone <= TOLERANCE and len(inputs) >= 100
        print(f"{path.stem:<22} {len(inputs)} inputs, largest relative difference {difference:.1e}", "" if good else "WRONG")
        failed += [] if good else [path.stem]
    if failed or not models:
        sys.exit(f"onnxruntime and gradmax disagree on: {', '.join(failed) or 'nothing was compared'}")


main(sys.argv[1])
