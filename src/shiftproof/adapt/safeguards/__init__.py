"""What limits the harm of adaptation: the guard, the router, warnings about settings."""
