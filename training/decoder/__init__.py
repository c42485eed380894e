"""A generator learned from views of many people, one style for each."""
