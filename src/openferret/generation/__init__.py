"""A picture encoded once, asked many times; boxes that are valid by construction."""
