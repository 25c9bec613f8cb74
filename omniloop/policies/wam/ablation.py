"""Ablations of the world-action model's eyes: does it drive by what it sees?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omniloop.core.errors import PluginError, PolicyError
from omniloop.policies.wam.inputs import Image, image_of

ABLATIONS = ("none", "black", "shuffled")

_STEP_US = 200_000
_ENDINGS = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True, eq=False)
class Ablation:
    """What stands in for an image.

    Attributes:
        kind: "none", "black" or "shuffled".
        others: ``(N, 128, 256, 3)`` the images of another rollout, 200 ms apart.
    """

    kind: str
    others: Image | None = None

    @classmethod
    def of(cls, kind: str, folder: str | None) -> Ablation:
        """Read what an ablation needs.

        Raises:
            PluginError: a folder is missing, without images, with one that is none, or given
                in vain.
        """
        if (kind == "shuffled") != (folder is not None):
            raise PluginError(
                f"ablate is {kind} and ablate_images is {folder}", where="policy.ablate_images",
                remedy="give a folder of another rollout's images with policy.ablate=shuffled, and only then",
            )  # fmt: skip
        if folder is None:
            return cls(kind)
        files = sorted(f for f in Path(folder).glob("*") if f.suffix.lower() in _ENDINGS)
        if not files:
            raise PluginError(
                "the folder holds no JPEG or PNG image", where=f"policy.ablate_images={folder}",
                remedy="put the frames of another rollout there, one file each, in the order of their names",
            )  # fmt: skip
        try:
            return cls(kind, np.stack([image_of(f.read_bytes(), str(f)) for f in files]))
        except PolicyError as error:
            raise PluginError(
                error.what, where=f"policy.ablate_images: {error.where}", remedy="take it out"
            ) from error

    def __call__(self, image: Image, since_first_us: int) -> Image:
        """The image, or what stands in for it so long after the rollout's first frame."""
        if self.kind == "none":
            return image
        if self.others is None:
            return np.zeros_like(image)
        shown: Image = self.others[since_first_us // _STEP_US % len(self.others)]
        return shown
