"""Methods for zero-shot classifiers such as CLIP, and their access to the class vectors."""
