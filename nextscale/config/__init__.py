"""What is built and how it is run, as frozen dataclasses. Nothing here imports torch."""
