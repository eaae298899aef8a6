"""Images to token maps and back."""
