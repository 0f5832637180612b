"""Finished runs measured again: by conditions of the images, or several runs together."""
