"""Where weights come from, which of them are trained, and how they are kept."""
