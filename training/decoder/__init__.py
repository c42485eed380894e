"""A generator learnt from views of many people, one style for each."""
