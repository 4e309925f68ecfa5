"""Reads the event files of a run that was taken up again with TensorBoard's own reader, and compares them with its metrics."""

import csv
import pathlib
import subprocess
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main(folder, gradmax):
    run = folder / "tensorboard-run"
    call = lambda *arguments: subprocess.run([gradmax, *map(str, arguments)], check=True, capture_output=True, text=True)
    call("train", "digits_mlp", "--set", "training.epochs=5", "--tensorboard", "--out", run, "--quiet")
    call("resume", run, "--set", "training.epochs=8", "--quiet")
    files = list((run / "tensorboard").iterdir())
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    with open(run / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    compared = 0
    for split in ("train", "test"):
        for what, column in [("loss", "loss"), ("score", "score")]:
            found = [(event.step, event.value) for event in events.Scalars(f"{what}/{split}")]
            expected = [(int(row["step"]), float(row[column])) for row in rows if row["split"] == split]
            assert [step for step, _ in found] == [step for step, _ in expected], (split, what)
            assert all(abs(a - b) <= 1e-6 * abs(b) for (_, a), (_, b) in zip(found, expected)), (split, what)
            compared += len(found)
    widths = [event.value for event in events.Scalars("width/hidden1")]
    assert widths[0] == 8 and widths[-1] == 20, widths
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("growth")]
    assert len(texts) == 3 and texts[0].startswith("step 90: grown: hidden1 8 -> 12"), texts
    print(f"{compared} numbers of {len(files)} files are those of the metrics, no step twice; {len(texts)} growth events as text")


main(pathlib.Path(sys.argv[1]), sys.argv[2])
