"""Spatial negative mining: what is asked for and not there (arXiv 2310.07704, section 4.3)."""
