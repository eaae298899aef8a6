"""Known pixels come back bit for bit outside the seam."""

import pytest
import torch

from nextscale.editing.seams import paste


@pytest.mark.parametrize("feather", [0, 1, 3])
def test_kept_pixels_outside_the_seam_are_the_originals(feather: int) -> None:
    edited, originals = torch.randn(2, 2, 3, 16, 16)
    keep = torch.ones(2, 16, 16)
    keep[:, 6:10, 6:10] = 0
    pasted = paste(edited, originals, keep, feather)
    assert torch.equal(pasted[:, :, 6:10, 6:10], edited[:, :, 6:10, 6:10])
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[6 - feather : 10 + feather, 6 - feather : 10 + feather] = False
    assert torch.equal(pasted[..., outside], originals[..., outside])
    if feather == 3:  # a row away from the hole: a fourth, two fourths, three fourths
        fade = ((pasted - edited) / (originals - edited))[0, 0, 8, 2:8]
        torch.testing.assert_close(fade, torch.tensor([1, 0.75, 0.5, 0.25, 0, 0]))


def test_masks_of_positions_hold_for_their_areas() -> None:
    edited, originals = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    keep = torch.tensor([[[1, 0], [1, 0.75]]])
    pasted = paste(edited, originals, keep)
    assert torch.equal(pasted[..., :4], originals[..., :4])
    assert torch.equal(pasted[..., :4, 4:], edited[..., :4, 4:])
    assert (pasted[..., 4:, 4:] == 0.75).all()  # soft masks mix
