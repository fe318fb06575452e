"""How an image, its box and its mask lie in a model's square input: stretched to it, or scaled and padded.

Stretched is MedSAM's protocol (METHOD section 11); padded is LiteMedSAM's: the longest side becomes the input's, what
lies below and to the right is zero. Both scale each image's own range to [0, 1].
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from .images import to_rgb
from .masks import Mask, resize_mask
from .prompts import Box, check_box


@dataclass(frozen=True)
class Frame:
    """The square input of a model.

    Attributes:
        size: Its side in pixels.
        padded: Whether images keep their aspect and are filled up with zeros, rather than stretched.
    """

    size: int
    padded: bool = False

    def content(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the input that show an image of (H, W) pixels."""
        if not self.padded:
            return self.size, self.size
        longest = max(shape)
        height, width = (max(1, int(side * self.size / longest + 0.5)) for side in shape)
        return height, width

    def image(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """Bring (H, W), (H, W, 3) or (H, W, 4) uint8 to (3, size, size) float32 in [0, 1].

        The resize is bicubic and anti-aliased; an image of one value becomes all zero.
        """
        # a copy of our own: readers of images hand out arrays that must not be written to
        rgb = np.array(to_rgb(image), order="C")
        shown = torch.from_numpy(rgb).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        content = self.content(rgb.shape[:2])
        # of its own size it comes out as it goes in
        if content != rgb.shape[:2]:
            shown = F.interpolate(shown[None], content, mode="bicubic", align_corners=False, antialias=True)[0]
            shown.clamp_(0.0, 255.0)
        low, high = shown.aminmax()
        return self._filled(shown.sub_(low).div_((high - low).clamp(min=1e-8)))

    def box(self, box: Box, shape: tuple[int, int]) -> Tensor:
        """Map a box x0, y0, x1, y1 from pixels of an image (H, W) to input pixels, (4,) float32.

        `check_box` refuses.
        """
        x0, y0, x1, y1 = check_box(box, shape)
        height, width = shape
        by_x, by_y = (self.size / max(shape),) * 2 if self.padded else (self.size / width, self.size / height)
        scale = torch.tensor([by_x, by_y, by_x, by_y], dtype=torch.float32)
        return torch.tensor([x0, y0, x1, y1], dtype=torch.float32) * scale

    def mask(self, mask: Mask) -> Mask:
        """Bring a mask (H, W) to (size, size), as `resize_mask` does; nothing is inside the padding."""
        height, width = mask.shape
        content = resize_mask(mask, self.content((height, width)))
        return np.pad(content, [(0, self.size - side) for side in content.shape])

    def place(self, square: Tensor, shape: tuple[int, int]) -> Tensor:
        """Put what was stretched to the input, (C, size, size), where an image of (H, W) pixels lies in it."""
        content = self.content(shape)
        if content == (self.size, self.size):
            return square
        shown = F.interpolate(square[None], content, mode="bilinear", align_corners=False, antialias=True)[0]
        return self._filled(shown)

    def crop(self, maps: Tensor, shape: tuple[int, int]) -> Tensor:
        """Leave of maps (B, C, n, n) over the whole input what shows an image of (H, W) pixels.

        Padded ones are brought to the input's size first, bilinearly, as segment-anything does.
        """
        if not self.padded:
            return maps
        if maps.shape[-1] != self.size:
            maps = F.interpolate(maps, (self.size, self.size), mode="bilinear", align_corners=False)
        height, width = self.content(shape)
        return maps[..., :height, :width]

    def _filled(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        return F.pad(image, (0, self.size - width, 0, self.size - height))
