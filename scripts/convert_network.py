"""``python scripts/convert_network.py --network=RUN --dest=small.safetensors``:
the same as ``gghead convert-network``."""

from _checkout import run

if __name__ == "__main__":
    run("convert-network")
