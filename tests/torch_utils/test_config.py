"""Configs, presets and schedules."""

import json
from dataclasses import replace

import pytest

from gghead.torch_utils import config as config_json
from gghead.torch_utils.config import Range
from gghead.torch_utils.errors import UserError
from gghead.training.gan import config as schedule
from gghead.training.gan.config import (
    PRESETS,
    LossConfig,
    OptimizerConfig,
    Stage,
    TrainConfig,
    check,
    default_gamma,
)
from gghead.training.prior.config import PriorTrainConfig


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_survive_json(name):
    config = PRESETS[name]
    check(config)
    assert config.preset == name
    assert (
        config_json.from_dict(TrainConfig, json.loads(json.dumps(config_json.to_dict(config))))
        == config
    )
    last = config.stages[-1]
    assert (config.generator.image_size, config.generator.grid) == (last.image_size, last.grid)
    assert config.generator.latent_resolution * 4 == config.generator.plane_resolution


def test_ffhq512_is_gghead():
    config = PRESETS["ffhq512"]
    first, second = config.stages
    assert (first.image_size, first.grid, second.image_size, second.grid) == (256, 256, 512, 512)
    assert (second.start_kimg, second.fade_kimg, second.lambda_beta) == (6400, 1000, 1.0)
    assert second.lambda_tv == pytest.approx(100 * 2 / 3)
    loss = config.loss
    assert (loss.r1_gamma, loss.r1_interval, loss.blur_sigma, loss.blur_fade_kimg) == (
        1,
        16,
        10,
        200,
    )
    assert (loss.lambda_position, loss.lambda_scale) == (0.1, 0.05)
    assert (loss.swap_start, loss.swap_end, loss.swap_fade_kimg) == (1.0, 0.5, 1000)
    assert (config.batch, config.kimg, config.optimizer.g_lr, config.optimizer.d_lr) == (
        32,
        25000,
        0.0025,
        0.002,
    )


def test_faults_name_the_key():
    with pytest.raises(UserError, match="no key 'batchs'; did you mean 'batch'"):
        config_json.from_dict(TrainConfig, {"batchs": 3})
    with pytest.raises(UserError, match="loss.r1_gamma must be of type float"):
        config_json.from_dict(TrainConfig, {"loss": {"r1_gamma": "big"}})
    with pytest.raises(UserError, match="must be one of nonsaturating, relativistic"):
        config_json.from_dict(TrainConfig, {"loss": {"kind": "hinge"}})
    with pytest.raises(UserError, match="must be a list"):
        config_json.from_dict(TrainConfig, {"stages": 3})
    with pytest.raises(UserError, match="must be a mapping"):
        config_json.from_dict(TrainConfig, [])
    with pytest.raises(UserError, match="options.json lacks the key 'preset'"):
        config_json.from_dict(PriorTrainConfig, {}, "options.json")
    with pytest.raises(UserError, match="options.json.loss.r1_gamma must not be negative"):
        config_json.from_dict(TrainConfig, {"loss": {"r1_gamma": -1.0}}, "options.json")
    with pytest.raises(UserError, match=r"config.stages\[1\].lambda_tv must not be negative"):
        config_json.from_dict(TrainConfig, {"stages": [{}, {"lambda_tv": -1.0}]})
    assert config_json.replace(TrainConfig(), {"loss": {"r1_gamma": 2}}).loss.r1_gamma == 2.0


def test_a_mapping_over_a_list_of_sections_changes_each():
    changed = config_json.replace(PRESETS["ffhq512"], {"stages": {"lambda_tv": 3}})
    assert [stage.lambda_tv for stage in changed.stages] == [3.0, 3.0]
    assert [stage.image_size for stage in changed.stages] == [256, 512]
    with pytest.raises(UserError, match="stages must be a list"):
        config_json.replace(TrainConfig(), {"stages": 3})
    with pytest.raises(UserError, match="groups must be a list"):
        config_json.replace(TrainConfig(), {"augment": {"groups": {"color": 1}}})


@pytest.mark.parametrize(
    "limits, good, bad, words",
    [
        (Range(0), [0, 7], [-1, float("nan")], "must not be negative"),
        (Range(2), [2, 7], [1], "must be at least 2"),
        (Range(0, above=True), [0.1], [0, -1], "must be above 0"),
        (Range(0, 1), [0, 0.5, 1], [-0.1, 1.1, float("nan")], "must lie between 0 and 1"),
        (Range(0, 1, above=True), [0.5, 1], [0, 2], "must be above 0 and at most 1"),
        (Range(max=3), [-9, 3], [4], "must be at most 3"),
    ],
)
def test_a_range_says_what_it_takes(limits, good, bad, words):
    assert [limits.fault(value) for value in good] == [None] * len(good)
    for value in bad:
        assert limits.fault(value) == f"{words}, but it is {value}."


def test_a_faulty_config_names_its_keys_and_a_command_its_options():
    error = config_json.ConfigError("{data.gan_share}=0.5 needs {init}.")
    assert str(error) == "data.gan_share=0.5 needs init."
    assert error.spell({"init": "--init"}) == "data.gan_share=0.5 needs --init."


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"stages": (Stage(start_kimg=5),)}, "must start at 0"),
        ({"stages": (Stage(), Stage(start_kimg=0))}, "follow one another"),
        ({"stages": (Stage(image_size=96),)}, "powers of two"),
        ({"stages": (Stage(image_size=256), Stage(start_kimg=1, image_size=128))}, "growing"),
        ({"batch": 7}, "cannot be shared by 2"),
        ({"batch": 8, "batch_gpu": 3}, "must divide the 4"),
        ({"kimg": -1.0}, "^kimg must not be negative"),
        ({"tick_kimg": 0.0}, "^tick_kimg must be at least 0.001"),
    ],
)
def test_impossible_runs_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        check(replace(TrainConfig(), **changes), world_size=2)


def test_stage_and_fade():
    stages = PRESETS["ffhq1024"].stages
    at = lambda kimg: schedule.stage_at(stages, int(kimg * 1000))  # noqa: E731
    assert [at(k)[0].image_size for k in (0, 6399, 6400, 24999, 25000)] == [
        256,
        256,
        512,
        512,
        1024,
    ]
    assert [at(k)[1] for k in (0, 6400, 6900, 8000, 25000, 25500)] == [1.0, 0.0, 0.5, 1.0, 0.0, 0.5]


def test_schedules():
    loss, optimizer = LossConfig(), OptimizerConfig()
    assert [schedule.blur_sigma(loss, n) for n in (0, 100_000, 200_000, 300_000)] == [10, 5, 0, 0]
    assert [schedule.swap_probability(loss, n) for n in (0, 500_000, 2_000_000)] == [1.0, 0.75, 0.5]
    assert schedule.ema_beta(optimizer, 10**7, 32) == pytest.approx(0.99778, abs=1e-5)
    assert schedule.ema_beta(optimizer, 0, 32) == 0.0
    assert default_gamma(512, 32) == pytest.approx(1.64, abs=0.01)
