"""Configuration: validation, one-line errors, YAML."""

from pathlib import Path

import pytest
import yaml

from foveate.core import ConfigError
from foveate.core.config import apply_sets, build, read_yaml, to_yaml
from foveate.pipeline.presets import PRESETS, Preset, edit, resolve
from foveate.policy.looks.baselines import CentrePatchSpec


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_endless_files_are_read_up_to_a_limit() -> None:
    with pytest.raises(ConfigError, match="larger than"):
        read_yaml(Path("/dev/zero"))


def test_round_trip_through_yaml() -> None:
    for preset in PRESETS.values():
        assert build(Preset, yaml.safe_load(to_yaml(preset))) == preset


@pytest.mark.parametrize(
    ("values", "says", "hint"),
    [
        ({"lok": {}}, "unknown key lok", "did you mean look?"),
        ({"look": {"rat": 3}}, "unknown key look.rat", "did you mean rate?"),
        ({"budget": {"macs": 3}}, "unknown key budget.macs", "did you mean macs_per_second?"),
        ({"top_k": 0}, "top_k", None),
        ({"look": {"name": "motion-pach"}}, "no motion-pach", "did you mean motion-patch?"),
        ({"look": {"rate": "abc"}}, "look.rate", None),
    ],
)
def test_faults_are_named_with_a_hint(values, says, hint) -> None:
    with pytest.raises(ConfigError) as error:
        edit(Preset(), values)
    assert says in error.value.cause
    assert "\n" not in str(error.value)
    assert hint is None or (error.value.hint or "").startswith(hint)


def test_another_policy_does_not_keep_fields() -> None:
    preset = edit(Preset(), {"look": {"name": "uniform", "rate": 2.0}})
    changed = edit(preset, {"look": {"name": "keyframes-first", "least": 4}})
    assert changed.look.model_dump() == {
        "name": "keyframes-first", "rate": None, "chunk": 10, "least": 4,
    }  # fmt: skip


def test_set_changes_nested_values_and_reads_yaml() -> None:
    values = apply_sets({"look": {"rate": 1.0}}, ["look.chunk=3", "window=2.5", "a.b.c=[1, x]"])
    assert values == {"look": {"rate": 1.0, "chunk": 3}, "window": 2.5, "a": {"b": {"c": [1, "x"]}}}


@pytest.mark.parametrize("item", ["noequals", "=3", "look.rate.deep=1"])
def test_invalid_set_options_are_rejected(item) -> None:
    with pytest.raises(ConfigError):
        apply_sets({"look": {"rate": 1.0}}, [item])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", "holds a list"),
        ("a: [1\n", "not YAML"),
        ("!!python/object:os.x {}", "YAML"),
        ("a:\n  b: 1\n  b: 2\n", "b is given twice, again in line 3"),
        ("a: 1\nb: 1\na: 2\n", "a is given twice, again in line 3"),
        ("[1]: 2\n", "not YAML"),
    ],
)
def test_yaml_without_mapping_or_with_code_is_rejected(tmp_path, text, says) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_yaml(path)


def test_missing_yaml(tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")


def test_resolution_order_path_then_preset_then_model(tmp_path, monkeypatch) -> None:
    assert resolve("keyframes-movinet-a0-stream-lite")[0] == "keyframes-movinet-a0-stream-lite"
    assert resolve("movinet-a0-stream-lite.k600") == (None, Preset())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "movinet-a0-stream-lite.k600").mkdir()
    with pytest.raises(Exception, match="no trained model"):
        resolve("movinet-a0-stream-lite.k600")


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(Exception, match="did you mean movinet-a0-stream-lite"):
        resolve("movinet-a0-stream-lit.k600")


@pytest.mark.parametrize(
    ("value", "says"),
    [("2", "must be at most 1 or 'auto'"), ("wide", "must be a number or 'auto'")],
)
def test_a_value_of_several_kinds_is_named_by_its_key_alone(value, says) -> None:
    with pytest.raises(ConfigError, match=rf"^settings: extent: {says}$"):
        build(CentrePatchSpec, apply_sets({}, [f"extent={value}"]), "settings")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"top_k": "many"}, "top_k: must be a whole number"),
        ({"top_k": 1.5}, "top_k: must be a whole number"),
        ({"top_k": 0}, "top_k: must be at least 1"),
        ({"window": 0}, "window: must be positive"),
        ({"window": "long"}, "window: must be a number"),
        ({"model": 3}, "model: must be text"),
        ({"look": "full"}, "look: must be key: value pairs"),
        (
            {"look": {"name": "motion-patch", "track": "x"}},
            "look.track: must be 'frame', 'viterbi'",
        ),
        ({"look": {"name": "motion-pach"}}, "look.name: there is no motion-pach"),
        ({"look": {"name": ["a"]}}, "look.name: there is no"),
    ],
)
def test_faults_are_described_in_plain_words(values, says) -> None:
    with pytest.raises(ConfigError) as error:
        edit(Preset(), values, "settings")
    assert error.value.cause.startswith(f"settings: {says}")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"look": {"gate": 0.3}},
            "look.gate: uniform has no such setting "
            "(it needs look.name to be one of motion-patch, mv-patch)",
        ),
        ({"decide": {"margin": 0.3}}, "unknown key decide.margin (known: name)"),
        (
            {"decide": {"threshold": 0.3}},
            "decide.threshold: at-end has no such setting "
            "(it needs decide.name to be one of calibrated, confident)",
        ),
    ],
)
def test_a_setting_of_another_policy_names_the_policies_that_have_it(values, says) -> None:
    with pytest.raises(ConfigError) as error:
        edit(Preset(), values, "settings")
    assert str(error.value) == f"settings: {says}"
