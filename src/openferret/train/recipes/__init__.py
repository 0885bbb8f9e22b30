"""Recipes: typed and checked nouns, the reader of their YAML, and those that ship."""
