"""Operations with a readable reference and, where it pays, a fast path."""
