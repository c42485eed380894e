"""Synthetic people made from the head template: shapes, paint, hair, light and pictures of them."""
