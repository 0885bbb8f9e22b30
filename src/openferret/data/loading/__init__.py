"""A built data set opened: its samples, its pictures, and how regions are shown to a model."""
