from __future__ import annotations

import subprocess
import sys

import pytest

import protomask

HEAVY = ("torch", "torchvision", "numpy", "PIL", "safetensors", "huggingface_hub", "pycocotools", "supervision",
         "accelerate", "tensorboard", "timm")  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has imported after running the code."""
    report = f"{code}\nimport sys\nprint('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_importing_the_package_is_light() -> None:
    assert loaded_by("import protomask; protomask.__version__; dir(protomask); protomask.ConfigError") == set()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["predict", "--help"], ["train", "--help"]])
def test_help_does_not_wait_for_torch(arguments: list[str]) -> None:
    code = f"from protomask.cli.main import main\ntry: main({arguments!r})\nexcept SystemExit: pass"
    assert "torch" not in loaded_by(code)


def test_the_options_of_predict_wait_for_no_pixels() -> None:
    assert loaded_by("import protomask.cli.predict") == set()


def test_every_public_name_is_there() -> None:
    assert dir(protomask) == sorted(protomask.__all__)
    for name in protomask.__all__:
        assert getattr(protomask, name) is not None
    assert protomask.__all__ == sorted(protomask.__all__)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="module 'protomask' has no attribute 'nothing'"):
        _ = protomask.nothing


def test_errors_are_one_tree() -> None:
    for error in (protomask.ConfigError, protomask.DataError, protomask.CheckpointError, protomask.MissingExtraError):
        assert issubclass(error, protomask.ProtomaskError)
    assert issubclass(protomask.ConfigError, ValueError)
    assert issubclass(protomask.MissingExtraError, ImportError)
