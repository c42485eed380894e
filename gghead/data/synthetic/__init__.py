"""Synthetic people made from the head template: shapes, paint, hair, light and images of them."""
