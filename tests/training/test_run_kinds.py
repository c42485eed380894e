"""A folder of another command's run: the sentence names the command, and no option that nobody
gave."""

import dataclasses
import shlex

import pytest

from gghead.torch_utils.errors import UserError
from gghead.training.avatar.config import AvatarTrainConfig
from gghead.training.decoder.config import DecoderTrainConfig
from gghead.training.encoder.config import EncoderTrainConfig
from gghead.training.expression.config import ExpressionTrainConfig
from gghead.training.gan.config import TrainConfig
from gghead.training.prior.config import PriorTrainConfig
from gghead.training.run import run_folder

KINDS = {
    "train.py": TrainConfig,
    "scripts/train_avatar.py": AvatarTrainConfig,
    "scripts/train_decoder.py": DecoderTrainConfig,
    "scripts/train_encoder.py": EncoderTrainConfig,
    "scripts/train_prior.py": PriorTrainConfig,
    "scripts/train_expression.py": ExpressionTrainConfig,
}


@pytest.mark.parametrize("script", KINDS)
@pytest.mark.parametrize("wanted", KINDS)
def test_a_run_is_read_by_its_own_command_only(tmp_path, script, wanted):
    folder = tmp_path / "two words"
    folder.mkdir()
    config = KINDS[script](**({} if script == "train.py" else {"preset": "tiny"}))
    run_folder.write_options(folder, config)
    if script == wanted:
        assert run_folder.read_options(folder, KINDS[wanted]) == config
        return
    with pytest.raises(UserError) as error:
        run_folder.read_options(folder, KINDS[wanted])
    said = str(error.value)
    assert (
        f"{folder} is a run of {script}, but one of {wanted} is needed here." in said
        and "did you mean" not in said
    )
    assert shlex.split(said.partition("To continue it: ")[2])[-1] == f"--resume={folder}"


def test_an_option_that_tells_kinds_apart_belongs_to_one_only():
    for key, script in run_folder._MARKS.items():
        owners = [
            name
            for name, kind in KINDS.items()
            if key in {field.name for field in dataclasses.fields(kind)}
        ]
        assert owners == [script]
