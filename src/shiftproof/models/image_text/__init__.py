"""Models that put images and texts into one space (CLIP, SigLIP): both towers, and what is between."""
