"""The GAN: generator against discriminator on single images with cameras."""
