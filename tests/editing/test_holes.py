"""Holes take what is around them, and nothing of what was in them."""

import torch

from nextscale.editing.holes import fill_holes


def test_known_pixels_stay_and_the_hole_s_content_does_not_matter() -> None:
    images, other = torch.rand(2, 3, 13, 9) * 2 - 1, torch.rand(2, 3, 13, 9)
    known = torch.rand(2, 1, 13, 9) > 0.4
    filled = fill_holes(images, known)
    everywhere = known.expand_as(images)
    assert torch.equal(filled[everywhere], images[everywhere])
    assert torch.equal(filled, fill_holes(torch.where(known, images, other), known))
    assert filled.abs().max() <= 1 + 1e-6


def test_a_hole_in_a_flat_image_vanishes() -> None:
    flat = torch.full((1, 1, 12, 12), 0.25)
    known = torch.ones(1, 1, 12, 12, dtype=torch.bool)
    known[..., 3:9, 2:7] = False
    torch.testing.assert_close(fill_holes(flat.where(known, torch.tensor(-1.0)), known), flat)


def test_of_nothing_known_it_makes_grey() -> None:
    assert not fill_holes(torch.ones(1, 1, 6, 6), torch.zeros(1, 1, 6, 6, dtype=torch.bool)).any()
