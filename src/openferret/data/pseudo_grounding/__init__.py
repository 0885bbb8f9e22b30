"""Boxes for text that has none, from an open-vocabulary detector."""
