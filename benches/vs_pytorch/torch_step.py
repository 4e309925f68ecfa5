"""The training steps of `crates/gradmax-experiments/benches/training_step.rs` in PyTorch.

Waits for lines on standard input, each a number of steps, and answers with the seconds of each step on a line.
"""

import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

BATCH = 128


class Block(nn.Module):
    """A pre-activation residual block."""

    def __init__(self, inputs, inside, outputs, stride, norm):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, inside, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inside) if norm else None
        self.conv2 = nn.Conv2d(inside, outputs, 3, 1, 1, bias=False)
        projects = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if projects else None

    def forward(self, maps):
        inside = self.conv1(F.relu(self.norm1(maps), inplace=True))
        inside = inside if self.norm2 is None else self.norm2(inside)
        residual = self.conv2(F.relu(inside, inplace=True))
        return residual + (maps if self.shortcut is None else self.shortcut(maps))


class WideResNet(nn.Module):
    def __init__(self, fraction, norm):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        blocks, inputs = [], 16
        for group in range(3):
            outputs = 16 << group
            for block in range(4):
                stride = 2 if group > 0 and block == 0 else 1
                blocks.append(Block(inputs, round(outputs * fraction), outputs, stride, norm))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(inputs)
        self.output = nn.Linear(inputs, 10)

    def forward(self, images):
        maps = F.relu(self.norm(self.blocks(self.stem(images))), inplace=True)
        return self.output(maps.mean((2, 3)))


def vgg11(fraction, norm):
    layers, inputs = [], 3
    for block, (width, repeats) in enumerate(zip([64, 128, 256, 512, 512], [1, 1, 2, 2, 2])):
        for layer in range(repeats):
            outputs = round(width * fraction)
            stride = 2 if block > 0 and layer == 0 else 1
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.ReLU(inplace=not norm)]
            layers += [nn.BatchNorm2d(outputs)] if norm else []
            inputs = outputs
    return nn.Sequential(*layers, nn.Conv2d(inputs, 10, 3, 2, 1, bias=False), nn.Flatten())


def mobilenet(classes):
    widths = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    layers = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.ReLU(), nn.BatchNorm2d(32)]
    inputs = 32
    for outputs, stride in widths:
        layers += [nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.ReLU(), nn.BatchNorm2d(outputs)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def mlp(widths):
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs, bias=len(widths) > 3), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class GptBlock(nn.Module):
    """A pre-norm block of attention and neurons."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, stream):
        batch, time, width = stream.shape
        heads = (part.view(batch, time, -1, 32).transpose(1, 2) for part in self.qkv(self.norm1(stream)).chunk(3, dim=2))
        gathered = F.scaled_dot_product_attention(*heads, is_causal=True)
        stream = stream + self.output(gathered.transpose(1, 2).reshape(batch, time, width))
        return stream + self.down(F.gelu(self.up(self.norm2(stream))))


class Gpt(nn.Module):
    def __init__(self, width, blocks, context):
        super().__init__()
        self.tokens = nn.Embedding(256, width)
        self.positions = nn.Parameter(torch.randn(context, width) * 0.02)
        self.blocks = nn.Sequential(*(GptBlock(width) for _ in range(blocks)))
        self.norm, self.output = nn.RMSNorm(width, eps=1e-5), nn.Linear(width, 256, bias=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens):
        return self.output(self.norm(self.blocks(self.tokens(tokens) + self.positions)))


def training_step(network, images, target, loss_of, momentum):
    if isinstance(network, Gpt):
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    elif momentum:
        optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, nesterov=True)
    else:
        optimizer = torch.optim.SGD(network.parameters(), 1e-3)

    def step():
        optimizer.zero_grad()
        loss_of(network(images), target).backward()
        optimizer.step()

    return step


def layer(sizes, which):
    channels, size = map(int, sizes.split("x"))
    images = torch.rand(BATCH, channels, size, size) * 2 - 1
    weight = torch.rand(channels, channels, 3, 3) * 2 - 1
    gradient = torch.rand(BATCH, channels, size, size) * 2 - 1
    if which == "forward":
        return lambda: F.conv2d(images, weight, padding=1)
    mask = [which == "input", which == "weight", False]
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(gradient, images, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)


def step_of(name):
    parts = name.split("_")
    norm = "bn" in parts
    images = lambda batch, size: torch.rand(batch, 3, size, size) * 2 - 1
    classes = lambda batch, count: torch.arange(batch) % count
    if parts[0] == "wrn28":
        network = WideResNet(float(parts[-1]), norm)
        return training_step(network, images(BATCH, 32), classes(BATCH, 10), F.cross_entropy, True)
    if parts[0] == "vgg11":
        network = vgg11(float(parts[-1]), norm)
        return training_step(network, images(BATCH, 32), classes(BATCH, 10), F.cross_entropy, True)
    if parts[0] == "mobilenet":
        size = int(parts[1])
        count, batch = (1000, 16) if size > 100 else (10, BATCH)
        return training_step(mobilenet(count), images(batch, size), classes(batch, count), F.cross_entropy, True)
    if parts[0] == "mlp":
        widths = [int(width) for width in parts[1:]]
        if len(widths) > 3:
            inputs = torch.rand(BATCH, widths[0])
            return training_step(mlp(widths), inputs, classes(BATCH, widths[-1]), F.cross_entropy, True)
        inputs, target = torch.rand(1000, widths[0]), torch.rand(1000, widths[-1])
        return training_step(mlp(widths), inputs, target, F.mse_loss, False)
    if parts[0] == "gpt":
        tokens, following = ((first + torch.arange(32 * 64)).mul(7).remainder(256).view(32, 64) for first in (0, 1))
        loss = lambda logits, target: F.cross_entropy(logits.flatten(0, 1), target.flatten())
        return training_step(Gpt(int(parts[1]), int(parts[2]), 64), tokens, following, loss, False)
    if parts[0] == "layer":
        return layer(parts[1], parts[2])
    raise SystemExit(f"there is no benchmark {name}")


def main():
    name, threads, device = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(threads)
    torch.set_default_device(device)
    torch.manual_seed(0)
    step = step_of(name)
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            started = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        print(*seconds, flush=True)


main()
