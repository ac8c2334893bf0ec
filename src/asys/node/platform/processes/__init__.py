"""Processes under Linux: which there are, who may be touched, how they are stopped."""
