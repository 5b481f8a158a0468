"""What an attacker does to each store, with its own commands: nothing here goes through our drivers."""
