"""Bounds of configurations, by which files from strangers are refused. No torch.

No network of this kind has more, and no machine holds it.
"""

LARGEST_SIDE = 16384  # pixels of an image
LARGEST_WIDTH = 2**16
LARGEST_DEPTH = 1024
LARGEST_COUNT = 2**24  # codes, classes
MOST_LEVELS = 15  # of halved resolution: one pixel of the largest image
LONGEST_KEY = 40  # characters that a message shows bare
LARGEST_STRENGTH = 1e6  # beyond, float32 logits overflow
LEAST_TEMPERATURE = 1e-6  # below, float32 logits overflow; top_k 1 is greedy
