"""What the page of classifiers has of its own."""
