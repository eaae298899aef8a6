"""Sampling: guide, filter, sample, decode; likelihood; many images."""
