"""Loads the transformers of a folder with Hugging Face's library, and compares their outputs with those of gradmax."""

import pathlib
import sys

import numpy
import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

# The largest difference that is rounding, relative to the largest output.
TOLERANCE = 1e-5


def main(folder):
    disable_progress_bar()
    failed = []
    paths = sorted(pathlib.Path(folder).glob("*.huggingface"))
    for path in paths:
        network, loading = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
        inputs = torch.from_numpy(numpy.fromfile(path.with_suffix(".tokens"), numpy.int32)).long().reshape(100, -1)
        with torch.no_grad():
            found = network.eval()(inputs).logits.numpy()
        expected = numpy.fromfile(path.with_suffix(".outputs"), numpy.float32).reshape(found.shape)
        difference = numpy.abs(found - expected).max() / numpy.abs(expected).max()
        good = difference <= TOLERANCE and not any(loading[what] for what in ("missing_keys", "unexpected_keys"))
        print(f"{path.stem:<22} largest relative difference {difference:.1e}", "" if good else f"WRONG {loading}")
        failed += [] if good else [path.stem]
    if failed or not paths:
        sys.exit(f"Hugging Face's library and gradmax disagree on: {', '.join(failed) or 'nothing was compared'}")


main(sys.argv[1])
