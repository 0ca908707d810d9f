"""Loads encoders that reelflow exported into torchvision and compares features on the same clip.

Usage: python3 tests/reference/torchvision_names.py FOLDER

FOLDER holds, for each of r3d_18 and r2plus1d_18, `NAME.safetensors` (exported weights) and
`NAME.io.safetensors` (tensors `clip` [B, 3, T, H, W] and `features` [B, 512]), as
`cargo test --test torchvision` writes them. Needs torch and torchvision; exits 77 without them.
"""

import pathlib
import sys

try:
    import torch
    import torchvision
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

from tensors import read

TOLERANCE = 1e-4


def compare(folder, name):
    """Largest difference of features, relative to the largest feature where that is above 1."""
    model = getattr(torchvision.models.video, name)(weights=None)
    # The head is all that an encoder does not have; with it out of the way nothing may be missing.
    model.fc = torch.nn.Identity()
    model.load_state_dict(read(folder / f"{name}.safetensors"), strict=True)
    model.eval()
    example = read(folder / f"{name}.io.safetensors")
    with torch.no_grad():
        features = model(example["clip"])
    difference = (features - example["features"]).abs().max().item()
    largest = features.abs().max().item()
    print(f"{name}: largest difference {difference:.3g}, features up to {largest:.3g}")
    return difference / max(1.0, largest)


def main():
    folder = pathlib.Path(sys.argv[1])
    # Threads that spin beside other tests make this minutes instead of seconds.
    torch.set_num_threads(1)
    worst = max(compare(folder, name) for name in ("r3d_18", "r2plus1d_18"))
    if not worst < TOLERANCE:
        sys.exit(f"features differ by {worst:.3g}, at most {TOLERANCE} is allowed")


if __name__ == "__main__":
    main()
