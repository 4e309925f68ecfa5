"""A table that pandas has written, from training to an ONNX model that onnxruntime runs: what gradmax finds in it is what pandas
does, its answers are read by pandas, and the model that has the data's treatment in it gives the same."""

import json
import pathlib
import subprocess
import sys

import numpy
import onnxruntime
import pandas

# The largest difference of a probability that is rounding.
TOLERANCE = 1e-5
CONFIG = """
[data]
name = "csv"
file = "table.csv"
test = "table.csv"
[network]
name = "mlp"
hidden = [4]
[optimizer]
name = "adam"
learning_rate = 0.01
[training]
steps = 200
[growth]
start = 50
every = 50
times = 2
count = 2
"""


def table():
    draw = numpy.random.default_rng(0)
    rows = 300
    frame = pandas.DataFrame(
        {
            "size": draw.normal(100.0, 3.0, rows),
            'width, "inner"': draw.normal(-5.0, 0.5, rows),
            "colour": draw.choice(['dark "red"', "blue, light", "two\nlines", "ünïcode"], rows),
            "flag": draw.integers(0, 2, rows).astype(bool),
            "count": draw.integers(0, 100, rows),
        }
    )
    frame["kind"] = numpy.where(frame["size"] + frame["count"] > 150, "large", "small")
    frame.loc[draw.choice(rows, 40, replace=False), "size"] = numpy.nan
    frame.loc[draw.choice(rows, 30, replace=False), "colour"] = None
    return frame


def check_found(frame, found):
    """What the run has kept of each column is what pandas says of it; gives what the network reads."""
    columns = []
    for column in found["encoding"]["inputs"]:
        values, (kind, of) = frame[column["column"]], *column["kind"].items()
        if kind == "number":
            assert numpy.isclose(of["mean"], values.mean(), rtol=1e-9), column
            assert numpy.isclose(of["deviation"], values.std(ddof=0), rtol=1e-9), column
            assert of["misses"] == values.isna().any(), column
            columns.append(values.fillna(of["mean"]))
            columns += [values.isna()] if of["misses"] else []
        else:
            known = sorted(values.dropna().astype(str).unique())
            assert of["values"] == ([""] if values.isna().any() else []) + known, column
            columns += [values.fillna("").astype(str) == value for value in of["values"]]
    return numpy.stack(columns, 1).astype(numpy.float64)


def main(folder, gradmax):
    frame = table()
    frame.to_csv(folder / "table.csv", index=False)
    (folder / "table.toml").write_text(CONFIG)
    run = folder / "table"
    call = lambda *arguments: subprocess.run([gradmax, *map(str, arguments)], check=True, capture_output=True, text=True).stdout
    call("train", folder / "table.toml", "--out", run, "--quiet")
    inputs = check_found(frame, json.loads((run / "data.json").read_text()))
    call("predict", run, folder / "table.csv", "--out", folder / "answers.csv")
    answers = pandas.read_csv(folder / "answers.csv")
    assert list(answers.columns) == ["file", "row", "class", "probability"] and len(answers) == len(frame)
    lines = [json.loads(line) for line in call("predict", run, folder / "table.csv", "--json").splitlines()]
    expected = numpy.array([[line["probabilities"][kind] for kind in ("large", "small")] for line in lines])
    call("export", run, "--format", "onnx", "--with-data")
    session = onnxruntime.InferenceSession(run / "network.onnx")

    found = session.run(None, {"input": inputs.astype(numpy.float32)})[0]
    difference = numpy.abs(found - expected).max()
    accuracy = (answers["class"] == frame["kind"]).mean()
    print(f"{len(frame)} rows by pandas, {100 * accuracy:.1f} % right; largest difference of a probability {difference:.1e}")
    if difference > TOLERANCE or accuracy < 0.8:
        sys.exit("the model with the data's treatment in it answers otherwise than gradmax")


main(pathlib.Path(sys.argv[1]), sys.argv[2])
