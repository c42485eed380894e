"""``python scripts/score_encoder.py --network=RUN --data=CAPTURES``: see
training/cli/score_encoder.py."""

from gghead.training.cli.score_encoder import main

if __name__ == "__main__":
    main()
