"""What is known of a study: its files, its timeline, its choices, and when it is complete."""
