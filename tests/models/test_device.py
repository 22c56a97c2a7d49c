"""One sentence for every device that a machine does not have."""

import pytest
import torch

from foveate.core import ConfigError
from foveate.models.device import choose_device, devices
from foveate.train.kit.distributed import join_group


@pytest.mark.parametrize("name", ["cuda:99", "foo", "meta", "cpu:3", "", "cpu,cuda", "cuda:0:0"])
def test_a_device_that_is_not_here_is_one_sentence_that_names_those_that_are(name: str) -> None:
    for choose in (choose_device, lambda device: join_group(device).__enter__()):
        with pytest.raises(ConfigError) as caught:
            choose(name)
        assert str(caught.value) == (
            f"device {name!r}: not on this machine (it has {', '.join(devices())})"
        )


def test_devices_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == choose_device(torch.device("cpu")) == torch.device("cpu")
    assert choose_device("cpu:0").type == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices() == ["cpu", "cuda:0", "cuda:1"]
    assert choose_device(None, 1) == torch.device("cuda:1") == choose_device("cuda:1")
    assert choose_device("cuda") == torch.device("cuda")
    with pytest.raises(ConfigError, match=r"'cuda:2': not on .*it has cpu, cuda:0, cuda:1\)"):
        choose_device("cuda:2")
