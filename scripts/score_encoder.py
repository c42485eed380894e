"""``python scripts/score_encoder.py --network=RUN --data=CAPTURES``: see training/encoder/score_cli.py."""

from gghead.training.encoder.score_cli import main

if __name__ == "__main__":
    main()
