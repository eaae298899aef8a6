"""Next-scale, next-token and diffusion on equal terms: what is trained, drawn, judged and shown."""
