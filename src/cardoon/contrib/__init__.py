"""What joins Cardoon to other things: test tools, frameworks. Each module needs what it is named for."""
