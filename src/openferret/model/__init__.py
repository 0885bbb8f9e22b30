"""Tensors in, tensors out: nothing here knows files, pictures or text."""
