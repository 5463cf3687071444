"""The recipes: each module is one self-contained application."""
