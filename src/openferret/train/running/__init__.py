"""The loop and what is around it: setting up, schedule, memory, failures."""
