"""{about}

    from {module} import load
    network = load()
    logits = network(inputs)  # inputs: {input}

It needs the packages torch and safetensors. Written by gradmax.
"""

import json
import pathlib

import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

FILE = pathlib.Path(__file__).with_name("{file}")
GPT2 = "transformer.h.{}.{} attn.c_attn attn.c_proj mlp.c_fc mlp.c_proj ln_1 ln_2 wte wpe ln_f transformer"
REST = "self_attn.{}_proj self_attn.o_proj mlp.up_proj mlp.down_proj input_layernorm post_attention_layernorm "
LLAMA = "model.layers.{}.{} " + REST + "embed_tokens embed_positions norm model"
IMAGES = "blocks.{}.{} " + REST + "- - norm -"


class Network(nn.Module):
    """Pre-norm blocks over tokens, or over squares of images; weights have the names of Hugging Face's models."""

    def __init__(self, shape, weights):
        super().__init__()
        self.shape, self.gpt2 = shape, "transformer.wte.weight" in weights
        self.images = "patch" in shape
        self.names = (GPT2 if self.gpt2 else IMAGES if self.images else LLAMA).split()
        for name, values in weights.items():
            *path, name = name.split(".")
            place = self
            for part in path:
                if not hasattr(place, part):
                    place.add_module(part, nn.Module())
                place = getattr(place, part)
            place.register_parameter(name, nn.Parameter(values))

    def normed(self, name, stream):
        norm = self.get_submodule(name)
        if self.shape["norm"] == "rms":
            return F.rms_norm(stream, norm.weight.shape, norm.weight, 1e-5)
        return F.layer_norm(stream, norm.weight.shape, norm.weight, norm.bias, 1e-5)

    def applied(self, name, inputs):
        layer = self.get_submodule(name)
        outputs = inputs @ (layer.weight if self.gpt2 and name != "lm_head" else layer.weight.T)
        return outputs + layer.bias if hasattr(layer, "bias") else outputs

    def heads(self, features, is_compared):
        heads = features.unflatten(2, (-1, self.shape["head"])).transpose(1, 2)
        if not is_compared or self.shape.get("positions") != "rotary":
            return heads
        time, half = heads.shape[2], heads.shape[3] // 2
        angles = torch.outer(torch.arange(time), 1e4 ** (-torch.arange(half) / half)).to(heads)
        (first, second), cos, sin = heads.split(half, 3), angles.cos(), angles.sin()
        return torch.cat((first * cos - second * sin, second * cos + first * sin), 3)

    def forward(self, inputs):
        block, read, gathered, up, down, norm1, norm2, embeddings, positions, last, model = self.names
        if self.images:
            squares = F.unfold(inputs, self.shape["patch"], stride=self.shape["patch"]).transpose(1, 2)
            stream = self.applied("squares", squares) + self.positions
        else:
            stream = self.get_submodule(f"{model}.{embeddings}").weight[inputs]
        if self.shape.get("positions") == "learned":
            stream = stream + self.get_submodule(f"{model}.{positions}").weight[: inputs.shape[1]]
        function = {"identity": lambda x: x, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
        function = function.get(self.shape["activation"]) or getattr(F, self.shape["activation"])
        for index, size in enumerate(self.shape["blocks"]):
            name = lambda part: block.format(index, part)
            if not size["heads"]:
                stream = stream + getattr(self.get_submodule(name(gathered)), "bias", 0)
            else:
                normal = self.normed(name(norm1), stream)
                qkv = [self.applied(name(read.format(part)), normal) for part in (["qkv"] if self.gpt2 else "qkv")]
                qkv = qkv[0].chunk(3, 2) if self.gpt2 else qkv
                parts = [self.heads(part, index < 2) for index, part in enumerate(qkv)]
                attended = F.scaled_dot_product_attention(*parts, is_causal=not self.images).transpose(1, 2).flatten(2)
                stream = stream + self.applied(name(gathered), attended)
            if not size["neurons"]:
                stream = stream + getattr(self.get_submodule(name(down)), "bias", 0)
            else:
                normal = self.normed(name(norm2), stream)
                gate = function(self.applied(name("mlp.gate_proj"), normal)) if self.shape["gated"] else None
                neurons = self.applied(name(up), normal)
                stream = stream + self.applied(name(down), function(neurons) if gate is None else gate * neurons)
        if self.images:
            return self.applied("output", self.normed(last, stream).mean(1))
        return self.applied("lm_head", self.normed(f"{model}.{last}", stream))


def load(file=FILE):
    """The network of the file."""
    with safe_open(file, "pt") as opened:
        weights = {name: opened.get_tensor(name) for name in opened.keys()}
        return Network(json.loads(opened.metadata()["transformer"]), weights).eval()
