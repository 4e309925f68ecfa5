"""{about}

    from {module} import load
    network = load()
    outputs = network(inputs)  # inputs: [examples, {input}]

It needs the packages torch and safetensors. Written by gradmax.
"""

import json
import pathlib

from safetensors import safe_open
from torch import nn

FILE = pathlib.Path(__file__).with_name("{file}")


class Network(nn.Module):
    """Layers that read the input, or what layers before them gave."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers
        for layer in layers:
            if layer["class"] == "Add":
                continue
            *path, name = layer["name"].split(".")
            place = self
            for part in path:
                if not hasattr(place, part):
                    place.add_module(part, nn.Module())
                place = getattr(place, part)
            place.add_module(name, getattr(nn, layer["class"])(**layer["arguments"]))

    def forward(self, inputs):
        results = {"input": inputs}
        for layer in self.layers:
            reads = [results[name] for name in layer["reads"]]
            if layer["class"] == "Add":
                results[layer["name"]] = sum(reads)
            else:
                results[layer["name"]] = self.get_submodule(layer["name"])(*reads)
        return results[self.layers[-1]["name"]]


def load(file=FILE):
    """The network of the file, ready to evaluate; `train()` makes it ready to train."""
    with safe_open(file, "pt") as opened:
        network = Network(json.loads(opened.metadata()["network"]))
        network.load_state_dict({name: opened.get_tensor(name) for name in opened.keys()})
    return network.eval()
