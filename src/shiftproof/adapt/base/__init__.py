"""What every adapter has: the base classes, its copy of the network, events, state and options."""
