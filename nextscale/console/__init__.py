"""A terminal and its files: messages, progress, output directories, tables, reports."""
