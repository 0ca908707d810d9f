"""Loads encoders that reelflow exported into PyTorch networks and compares features on the same clip.

Usage: python3 tests/reference/encoders.py FOLDER

FOLDER holds, for each encoder, `NAME.safetensors` (exported weights) and `NAME.io.safetensors` (tensors
`clip` [B, 3, T, H, W] and `features` [B, features]), as `cargo test --test encoders` writes them. r3d_18,
r2plus1d_18 and s3d are torchvision's own; s3d_g is torchvision's s3d with gates put in; c3d, c3d_bn and i3d
are written here from the papers (Tran et al. 2015; Carreira and Zisserman 2017), with the parameter names of
the ports whose weights people have. Needs torch and torchvision; exits 77 without them.
"""

import pathlib
import sys

try:
    import torch
    import torchvision
    from torch import nn
    from torch.nn import functional
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

from tensors import read

TOLERANCE = 1e-4


def bare(model, head):
    """A network of torchvision whose head is gone and whose pooling takes any size."""
    setattr(model, head, nn.Identity())
    model.avgpool = nn.AdaptiveAvgPool3d(1)
    return model


class Gating(nn.Module):
    """Xie et al. 2018, section 4.4: y = x * sigmoid(W mean(x) + b)."""

    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x):
        return x * torch.sigmoid(self.fc(x.mean(dim=(2, 3, 4))))[:, :, None, None, None]


def gate_branches(block):
    """Gates on the four branches of an inception block."""
    branches = [block.branch0, block.branch1, block.branch2, block.branch3]
    for i, branch in enumerate(branches):
        channels = [m for m in branch.modules() if isinstance(m, nn.Conv3d)][-1].out_channels
        block.add_module(f"gating_b{i}", Gating(channels))
    gates = [block.gating_b0, block.gating_b1, block.gating_b2, block.gating_b3]
    block.forward = lambda x: torch.cat([gate(branch(x)) for gate, branch in zip(gates, branches)], dim=1)


def s3d(gated):
    model = bare(torchvision.models.video.s3d(weights=None), "classifier")
    if gated:
        # Called last by its Sequential, and named as a part of it.
        model.features[3].add_module("gating", Gating(192))
        for i in (5, 6, 8, 9, 10, 11, 12, 14, 15):
            gate_branches(model.features[i])
    return model


class C3D(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm
        inputs = 3
        names = ("1", "2", "3a", "3b", "4a", "4b", "5a", "5b")
        for name, outputs in zip(names, (64, 128, 256, 256, 512, 512, 512, 512)):
            self.add_module(f"conv{name}", nn.Conv3d(inputs, outputs, 3, padding=1))
            if norm:
                self.add_module(f"bn{name}", nn.BatchNorm3d(outputs))
            inputs = outputs

    def layer(self, x, name):
        x = getattr(self, f"conv{name}")(x)
        return torch.relu(getattr(self, f"bn{name}")(x) if self.norm else x)

    def forward(self, x):
        x = functional.max_pool3d(self.layer(x, "1"), (1, 2, 2))
        x = functional.max_pool3d(self.layer(x, "2"), 2)
        x = functional.max_pool3d(self.layer(self.layer(x, "3a"), "3b"), 2)
        x = functional.max_pool3d(self.layer(self.layer(x, "4a"), "4b"), 2)
        return self.layer(self.layer(x, "5a"), "5b").mean(dim=(2, 3, 4))


def same(x, kernel, stride):
    """TensorFlow's "same" padding: ceil(size / stride) places, the odd one behind."""
    pads = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride)):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads)


class Unit(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=0.001)

    def forward(self, x):
        return torch.relu(self.bn(self.conv3d(same(x, self.kernel, self.stride))))


def pool(x, kernel, stride):
    return functional.max_pool3d(same(x, kernel, stride), kernel, stride)


class Mixed(nn.Module):
    def __init__(self, inputs, b0, b1a, b1b, b2a, b2b, b3b):
        super().__init__()
        self.b0 = Unit(inputs, b0, 1)
        self.b1a, self.b1b = Unit(inputs, b1a, 1), Unit(b1a, b1b, 3)
        self.b2a, self.b2b = Unit(inputs, b2a, 1), Unit(b2a, b2b, 3)
        self.b3b = Unit(inputs, b3b, 1)

    def forward(self, x):
        pooled = self.b3b(pool(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), pooled], dim=1)


class I3D(nn.Module):
    # Channels of the inception blocks (Szegedy et al. 2015, table 1).
    MIXED = {
        "3b": (192, 64, 96, 128, 16, 32, 32),
        "3c": (256, 128, 128, 192, 32, 96, 64),
        "4b": (480, 192, 96, 208, 16, 48, 64),
        "4c": (512, 160, 112, 224, 24, 64, 64),
        "4d": (512, 128, 128, 256, 24, 64, 64),
        "4e": (512, 112, 144, 288, 32, 64, 64),
        "4f": (528, 256, 160, 320, 32, 128, 128),
        "5b": (832, 256, 160, 320, 32, 128, 128),
        "5c": (832, 384, 192, 384, 48, 128, 128),
    }

    def __init__(self):
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        for name, channels in self.MIXED.items():
            self.add_module(f"Mixed_{name}", Mixed(*channels))

    def forward(self, x):
        x = pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        x = pool(self.Mixed_3c(self.Mixed_3b(x)), (3, 3, 3), (2, 2, 2))
        for name in ("4b", "4c", "4d", "4e", "4f"):
            x = getattr(self, f"Mixed_{name}")(x)
        x = self.Mixed_5c(self.Mixed_5b(pool(x, (2, 2, 2), (2, 2, 2))))
        return x.mean(dim=(2, 3, 4))


MODELS = {
    "r3d_18": lambda: bare(torchvision.models.video.r3d_18(weights=None), "fc"),
    "r2plus1d_18": lambda: bare(torchvision.models.video.r2plus1d_18(weights=None), "fc"),
    "s3d": lambda: s3d(False),
    "s3d_g": lambda: s3d(True),
    "c3d": lambda: C3D(False),
    "c3d_bn": lambda: C3D(True),
    "i3d": I3D,
}


def compare(folder, name):
    """Largest difference of features, relative to the largest feature."""
    model = MODELS[name]()
    model.load_state_dict(read(folder / f"{name}.safetensors"), strict=True)
    model.eval()
    example = read(folder / f"{name}.io.safetensors")
    with torch.no_grad():
        features = model(example["clip"])
    difference = (features - example["features"]).abs().max().item()
    largest = features.abs().max().item()
    print(f"{name}: largest difference {difference:.3g}, features up to {largest:.3g}")
    if not 1e-3 < largest < 1e6:
        sys.exit(f"features of {name} up to {largest:.3g} compare nothing")
    return difference / largest


def main():
    folder = pathlib.Path(sys.argv[1])
    # Threads that spin beside other tests make this minutes instead of seconds.
    torch.set_num_threads(1)
    for path in sorted(folder.glob("*.io.safetensors")):
        name = path.name.removesuffix(".io.safetensors")
        difference = compare(folder, name)
        # Not the other way around: no number is below the tolerance either.
        if not difference < TOLERANCE:
            sys.exit(f"features of {name} differ by {difference:.3g}, at most {TOLERANCE} is allowed")


if __name__ == "__main__":
    main()
