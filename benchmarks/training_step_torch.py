"""PyTorch's side of training_step.py: needs nothing but PyTorch.

    python benchmarks/training_step_torch.py CROP BATCH THREADS

Reads the name of a variant per line and answers with the seconds that one training step of it took. The network is the
EDSR baseline ×4, in channels_last, with Adam, clipping and MAE on what arrives as uint8, as on the other side.
"""

import argparse
import sys
import time

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, filters: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(filters, filters, 3, padding=1)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(functional.relu(self.conv1(x)))


class Edsr(nn.Module):
    def __init__(self, blocks: int = 16, filters: int = 64) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, filters, 3, padding=1)
        self.body = nn.Sequential(*(Block(filters) for _ in range(blocks)), nn.Conv2d(filters, filters, 3, padding=1))
        self.upsample = nn.Sequential(
            *(m for _ in range(2) for m in (nn.Conv2d(filters, 4 * filters, 3, padding=1), nn.PixelShuffle(2)))
        )
        self.tail = nn.Conv2d(filters, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        return self.tail(self.upsample(x + self.body(x)))


def variant(name: str, crop: int, batch: int):
    """A function that takes one step."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if name == "torch bf16 weights" else torch.float32
    network = Edsr().to(memory_format=torch.channels_last, dtype=dtype)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    lr = torch.randint(0, 256, (batch, 3, crop, crop), dtype=torch.uint8).to(memory_format=torch.channels_last)
    hr = torch.randint(0, 256, (batch, 3, 4 * crop, 4 * crop), dtype=torch.uint8)
    hr = hr.to(memory_format=torch.channels_last)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "torch bf16 autocast"):
            sr = network((lr.to(torch.float32) / 255).to(dtype))
        loss = (sr.float() - hr.to(torch.float32) / 255).abs().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("crop", "batch", "threads"):
        parser.add_argument(name, type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    steps = {}
    for line in sys.stdin:
        name = line.strip()
        step = steps.setdefault(name, None) or variant(name, options.crop, options.batch)
        steps[name] = step
        begun = time.perf_counter()
        step()
        print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    main()
