"""A page to draw, edit and look inside, by Gradio. `studio` does the work, `page` shows it."""
