"""What a bundle holds: its files, and the typed documents among them. Imports no torch."""
