"""What networks cost: parameters, FLOPs and memory, before anything runs."""
