"""Directories and names to pipelines and back."""
