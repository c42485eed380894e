"""Plain network modules: layers, mapping, synthesis, decoder, discriminator, background."""
