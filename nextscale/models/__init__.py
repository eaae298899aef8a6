"""Transformers over token maps. They do not know the tokenizer."""
