from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from classify.predictor import Predictor
from classify.tested import evaluate_ensemble, evaluate_run
from classify.training import train
from retrieval.errors import BackboneError, ImgretError, RunError
from tests.classify.blobs import save_blobs, tiny
from tests.timm_versions import read_by_timm


def test_a_prediction_is_that_of_the_network(run: Path, blobs: Path) -> None:
    file = next((blobs / "test" / "red").iterdir())
    network = read_by_timm(run).eval()
    picture = Image.open(file).resize((16, 16), Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    x = (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    theirs = network(x).softmax(dim=1)[0].detach().numpy()
    (ours,) = Predictor.load(run).predict([file], top=3)
    found = dict(zip(ours.classes, ours.probabilities, strict=True))
    for name, probability in zip(("blue", "green", "red"), theirs, strict=True):
        assert found[name] == pytest.approx(probability, abs=0.03)  # bfloat16
    assert list(ours.probabilities) == sorted(ours.probabilities)[::-1]


def test_a_folder_is_predicted_and_a_bad_image_is_a_row(run: Path, tmp_path: Path) -> None:
    save_blobs(tmp_path, 2)
    (tmp_path / "red" / "bad.png").write_bytes(b"no image")
    predictions = Predictor.load(run).predict([tmp_path], top=1)
    assert len(predictions) == 7
    (bad,) = [p for p in predictions if p.error is not None]
    assert bad.path.name == "bad.png"
    assert bad.classes == ()


def test_paths_may_be_text_and_one_alone(run: Path, blobs: Path) -> None:
    file = next((blobs / "test" / "red").iterdir())
    predictor = Predictor.load(run)
    expected = predictor.predict([file])
    for paths in (file, str(file), [str(file)]):
        assert predictor.predict(paths) == expected


@pytest.mark.parametrize("top", [0, -1, 1.5])
def test_a_number_of_classes_that_is_none_is_refused(run: Path, blobs: Path, top: int) -> None:
    predictor = Predictor.load(run)
    with pytest.raises(ImgretError, match=r"top is .*Give"):
        predictor.predict([blobs / "test" / "red"], top=top)
    with pytest.raises(ImgretError, match=r"top is .*Give"):
        predictor.predict_pixels(np.zeros((1, 32, 32, 3), np.uint8), top=top)


def test_a_run_is_tested_on_its_test_images_or_those_it_was_chosen_by(run: Path) -> None:
    assert evaluate_run(run).images == 12
    assert evaluate_run(run).top1 > 0.8
    held_out = evaluate_run(run, validation=True)
    assert held_out.images == 6
    assert "validation" in held_out.data


def test_classes_that_the_run_does_not_know_are_said(run: Path, tmp_path: Path) -> None:
    save_blobs(tmp_path, 2)
    (tmp_path / "red").rename(tmp_path / "purple")
    with pytest.raises(ImgretError, match=r"'purple'.*does not know"):
        evaluate_run(run, tmp_path)


def test_an_ensemble_is_the_mean_of_the_probabilities(
    run: Path, blobs: Path, tmp_path: Path
) -> None:
    from classify.evaluation import softmax

    train(blobs, tiny("training.seed=9", "training.epochs=6"), tmp_path / "other")
    together = evaluate_ensemble([run, tmp_path / "other"], blobs / "test")
    files = sorted((blobs / "test").rglob("*.png"))
    pixels = np.stack(
        [np.array(Image.open(f).resize((16, 16), Image.Resampling.BICUBIC)) for f in files]
    )
    mean = np.mean(
        [softmax(Predictor.load(r).scores(pixels)) for r in (run, tmp_path / "other")], axis=0
    )
    names = [("blue", "green", "red")[n] for n in mean.argmax(axis=1)]
    right = [name == file.parent.name for name, file in zip(names, files, strict=True)]
    assert together.top1 == pytest.approx(np.mean(right))
    assert together.model == "tiny + other"


def test_runs_of_other_classes_make_no_ensemble(run: Path, tmp_path: Path) -> None:
    save_blobs(tmp_path / "data", 4)
    (tmp_path / "data" / "red").rename(tmp_path / "data" / "purple")
    train(tmp_path / "data", tiny("training.epochs=1"), tmp_path / "other")
    with pytest.raises(ImgretError, match="different classes"):
        evaluate_ensemble([run, tmp_path / "other"])


@pytest.mark.parametrize("damage", ["weights", "shape", "names", "config", "architecture"])
def test_a_hostile_or_damaged_run_is_one_sentence(run: Path, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    if damage == "weights":
        (folder / "model.safetensors").write_bytes(b"\x80\x04cposix\nsystem\n")
    elif damage == "shape":
        config["model_args"]["layout"]["layers"][0] = 9
    elif damage == "names":
        config["label_names"] = ["red", "red", 3]
    elif damage == "config":
        config["model_args"]["layout"]["backbone"] = "hf-hub:someone/else"
    else:
        config["architecture"] = "no_such_architecture"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError):
        Predictor.load(folder)


def test_weights_that_are_no_numbers_are_one_sentence(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v * float("nan") for k, v in weights.items()}, folder / "model.safetensors")
    with pytest.raises(BackboneError, match="does not give a finite score"):
        Predictor.load(folder)


@pytest.mark.parametrize("side", [1, 64])
def test_a_run_whose_network_cannot_take_its_own_images_is_one_sentence(
    blobs: Path, tmp_path: Path, side: int
) -> None:
    train(blobs, tiny("training.epochs=1", "model.head.pool=flatten"), tmp_path / "flat")
    file = tmp_path / "flat" / "config.json"
    config = json.loads(file.read_text())
    config["pretrained_cfg"]["input_size"] = [3, side, side]
    file.write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=f"cannot take images of {side} px"):
        Predictor.load(tmp_path / "flat")


def test_no_pictures_have_no_scores(run: Path) -> None:
    assert Predictor.load(run).scores(np.zeros((0, 16, 16, 3), np.uint8)).shape == (0, 3)


def test_paths_may_be_text_and_what_is_no_path_is_said(
    run: Path, blobs: Path, tmp_path: Path
) -> None:
    assert Predictor.load(str(run)).classes == Predictor.load(run).classes
    made = train(str(blobs), tiny("training.epochs=1"), str(tmp_path / "run"))
    assert made.run.folder == tmp_path / "run"
    for wrong in ("", None, 3):
        with pytest.raises(ImgretError, match=r"is .*\. Give a path\."):
            train(blobs, tiny(), wrong)  # type: ignore[arg-type]


def test_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        Predictor.load(tmp_path / "nothing")
