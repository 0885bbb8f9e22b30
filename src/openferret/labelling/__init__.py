"""A folder of pictures and a list of names -> labels that other tools read, and pages to review them."""
