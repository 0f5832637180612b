"""The page of breaking points: mean severities, curves, and images where they break."""
