"""The diffusion peer of the comparison: DiT over a tokenizer's features or over pixels."""
