"""Files, whole or not at all, read within bounds; tensors in them; files of the hub."""
