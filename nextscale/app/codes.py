"""Token maps as pictures for the eye: a colour a code, alike codes in alike colours."""

import torch
from PIL import Image
from torch import Tensor

SIDE = 224  # pixels of a picture, at least


def code_colours(codebook: Tensor) -> Tensor:
    """Colours uint8 (V, 3) of codes (V, C): the ranks of their first three principal components."""
    centred = codebook.float() - codebook.float().mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:3]  # (up to 3, C)
    ranks = (centred @ axes.T).argsort(0).argsort(0)  # (V, up to 3)
    colours = (ranks * 255 / max(1, len(codebook) - 1)).round().to(torch.uint8)
    return torch.nn.functional.pad(colours, (0, 3 - colours.shape[1]), value=128)


def token_tiles(tokens: Tensor, colours: Tensor) -> Image.Image:
    """A token map (h, w) as squares of its codes' colours (V, 3)."""
    picture = Image.fromarray(colours[tokens].cpu().numpy())
    factor = -(-SIDE // max(picture.size))
    size = picture.width * factor, picture.height * factor
    return picture.resize(size, Image.Resampling.NEAREST)


def code_use(maps: list[Tensor], codes: int) -> list[tuple[str, int, int, float]]:
    """Of each token map (h, w): scale, tokens, different codes, and their share of all codes."""
    rows = []
    for tokens in maps:
        used = len(tokens.unique())
        h, w = tokens.shape
        rows.append((f"{h}x{w}", tokens.numel(), used, used / codes))
    return rows
