"""Trains tokenizers and transformers; everything here may run on one process or on many."""
