"""Straightforward PyTorch, timed: torch.nn layers, symmetric padding, one Adam, and a DataLoader
that decodes JPEGs from the canonical archive with torchvision.

    .venv/bin/python -m bench.pytorch_plain
"""

import tarfile
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional as transforms

from bench import contender
from bench.contender import BATCH, CHANNELS, SIZE

WORKERS = 2  # processes that decode JPEGs


class ArchivedFaces(Dataset):
    """The centre 128x128 crops of a tar's JPEGs, decoded one at a time, (3,128,128) in [0,1]."""

    def __init__(self, archive: str) -> None:
        self.archive = archive
        with tarfile.open(archive) as tar:
            self.places = [(m.offset_data, m.size) for m in tar if m.name.endswith(".jpg")]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Tensor:
        offset, size = self.places[number]
        with open(self.archive, "rb") as file:
            file.seek(offset)
            data = bytearray(file.read(size))
        image = decode_image(torch.frombuffer(data, dtype=torch.uint8), ImageReadMode.RGB)
        return transforms.to_dtype(transforms.center_crop(image, [SIZE, SIZE]), scale=True)


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level, (outer, inner) in enumerate(pairwise(CHANNELS)):
            kernel = 3 if level else 5
            pad = kernel // 2
            self.encoder.append(nn.Sequential(nn.Conv2d(outer, inner, kernel, 2, pad), nn.SELU()))
            self.decoder.append(
                nn.Sequential(
                    nn.ConvTranspose2d(inner, outer, kernel, 2, pad, output_padding=1),
                    nn.SELU() if level else nn.Sigmoid(),
                )
            )


def stacked_loss(model: Autoencoder, images: Tensor) -> Tensor:
    activation = images
    for level in (*model.encoder, *reversed(model.decoder)):
        activation = level(activation)
    return mse_loss(activation, images)


def recursive_loss(model: Autoencoder, images: Tensor) -> Tensor:
    total, activation = images.new_zeros(()), images
    for encode, decode in zip(model.encoder, model.decoder, strict=True):
        target = activation.detach()
        activation = encode(target)
        total = total + mse_loss(decode(activation), target)
    return total


class Training:
    def __init__(self, loss) -> None:
        self.model, self.loss = Autoencoder(), loss
        self.optimiser = torch.optim.Adam(self.model.parameters(), 1e-3, eps=1e-7)

    def step(self, images: Tensor) -> int:
        """One step; returns how many images it took."""
        self.optimiser.zero_grad()
        loss = self.loss(self.model, images)
        loss.backward()
        self.optimiser.step()
        loss.item()  # as a loop does that shows its progress
        return len(images)


def batches_for_ever(archive: str) -> Iterator[Tensor]:
    how = {"shuffle": True, "drop_last": True, "persistent_workers": True}
    loader = DataLoader(ArchivedFaces(archive), BATCH, num_workers=WORKERS, **how)
    while True:
        yield from loader


def main() -> None:
    parser = contender.parser(__doc__.splitlines()[0])
    parser.add_argument("--archive", default="data/lfw-deepfunneled.tar")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    trainings = {"recursive": Training(recursive_loss), "stacked": Training(stacked_loss)}
    loader = batches_for_ever(arguments.archive)

    def train(training: str, batches: int) -> int:
        return sum(trainings[training].step(next(loader)) for _ in range(batches))

    contender.contend(train)


if __name__ == "__main__":
    main()
