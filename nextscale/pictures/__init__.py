"""Pictures (PIL) to tensors and back; grids and animations of them."""
