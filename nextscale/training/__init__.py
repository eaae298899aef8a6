"""Trains tokenizers, transformers and classifiers, on one process or many."""
