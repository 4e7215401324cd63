"""The pages that show a lab's results."""
