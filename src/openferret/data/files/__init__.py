"""Files of any kind, read and written with care: whole or not there, larger than memory, or by strangers."""
