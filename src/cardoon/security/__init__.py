"""Who may ask for what. No network."""
