"""Seeds of images: their range, and fresh ones. Nothing here imports torch."""

import secrets

LARGEST_SEED = 2**63 - 1
FRESH_SEEDS = 2**31  # few digits to type again, and room above for images and candidates


def fresh_seed() -> int:
    """A seed from the system's entropy, which no seeded generator repeats."""
    return secrets.randbelow(FRESH_SEEDS)


def all_seeds_from(seed: int) -> range:
    """Every seed from one on."""
    return range(seed, LARGEST_SEED + 1)


def seeds_from(seed: int | None, count: int) -> range:
    """Consecutive seeds of a number of images; None begins at a fresh one."""
    first = fresh_seed() if seed is None else seed
    return range(first, first + count)
