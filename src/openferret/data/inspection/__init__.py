"""A built data set looked at: counted, checked, and drawn on a page."""
