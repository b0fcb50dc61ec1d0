"""Results files: written whole, read back exactly, refused when they cannot be trusted; tables as text."""

import json
from datetime import UTC, date, datetime

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import results, runtime
from helpers.runtime import UserError
from helpers.show import Picture

ROWS = [
    {"model": "dense VAE", "epochs": 40, **results.interval("PSNR", 21.2, 21.0, 21.4), "minutes": 1.5},
    {"model": "U-Net", "epochs": 40, **results.interval("PSNR", 34.88, 34.81, 34.95), "minutes": 12.25},
]
ABOUT = {"split": "test", "items": 1000, "metric": "PSNR (dB)", "protocol": "mean over images, 95 % bootstrap"}


def width(path):
    with Image.open(path, formats=["PNG"]) as picture:
        return picture.width


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    monkeypatch.setattr(runtime, "BUILD", tmp_path / "build")
    return results.Run("01", "quick", 7, "MNIST + Fashion-MNIST", False, "2 CPU cores")


def test_saved_results_come_back_exactly_with_all_that_describes_them(run, tmp_path):
    path = run.save("models", "What each step bought", ROWS, **ABOUT, batch=64)
    assert path == tmp_path / "build" / "results" / "01_models.json"
    record = run.load("models")
    assert record == results.load_results(path)
    assert record["rows"] == ROWS
    assert {key: record[key] for key in ABOUT} == ABOUT
    assert (record["notebook"], record["name"], record["profile"], record["seed"]) == ("01", "models", "quick", 7)
    assert (record["data"], record["embedded"]) == ("MNIST + Fashion-MNIST", False)
    assert record["device"] == "2 CPU cores"
    assert record["extra"] == {"batch": 64}
    assert record["versions"] == runtime.versions()
    assert abs(date.fromisoformat(record["created"]) - datetime.now(UTC).date()).days <= 1
    assert record["revision"]
    assert 0 <= record["seconds"] < 60
    assert [file.name for file in path.parent.iterdir()] == ["01_models.json"]


def test_only_published_profiles_on_real_data_reach_the_committed_folder(run, tmp_path):
    run.profile = "full"
    assert run.save("models", "t", ROWS, **ABOUT) == tmp_path / "report" / "results" / "01_models.json"
    assert run.save_figure(Picture(1, 1), "curve") == tmp_path / "figures" / "01_curve.png"
    for profile, embedded in [("full", True), ("quick", False), ("smoke", False), ("long", False), ("long", True)]:
        run.profile, run.embedded = profile, embedded
        assert run.save("models", "t", ROWS, **ABOUT) == tmp_path / "build" / "results" / "01_models.json"
        assert run.save_figure(Picture(1, 1), "curve") == tmp_path / "build" / "figures" / "01_curve.png"


def test_tensors_and_numpy_numbers_become_plain_numbers(run):
    rows = [{"a": torch.tensor(0.5), "b": np.float64(0.1), "c": np.int64(3), "d": np.bool_(True), "e": None}]
    run.save("plain", "t", rows, **ABOUT, matrix=np.eye(2), losses=(torch.ones(2), [1]))
    record = run.load("plain")
    assert record["rows"] == [{"a": 0.5, "b": 0.1, "c": 3, "d": True, "e": None}]
    assert record["extra"] == {"matrix": [[1.0, 0.0], [0.0, 1.0]], "losses": [[1.0, 1.0], [1]]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), torch.tensor(float("-inf"))])
def test_numbers_that_are_not_finite_are_refused_by_name(run, value):
    with pytest.raises(UserError, match=r"01_bad.json, rows\[1\], PSNR is"):
        run.save("bad", "t", [{"PSNR": 1.0}, {"PSNR": value}], **ABOUT)
    with pytest.raises(UserError, match=r"extra, matrix\[0\]\[0\] is"):
        run.save("bad", "t", ROWS, **ABOUT, matrix=[[value]])
    assert not list(runtime.BUILD.rglob("*bad*"))


@pytest.mark.parametrize("rows", [[], [{}], [{"a": [1, 2]}], [{"a": {"b": 1}}], [3]])
def test_rows_must_be_flat_dicts(run, rows):
    with pytest.raises(UserError, match="flat dicts"):
        run.save("bad", "t", rows, **ABOUT)


def test_missing_and_malformed_files_are_named_with_a_remedy(run, tmp_path):
    with pytest.raises(UserError, match="01_nothing.json cannot be read .No such file.*: run the notebook"):
        run.load("nothing")
    path = run.save("models", "t", ROWS, **ABOUT)
    whole = path.read_text()
    record = json.loads(whole)
    broken = {
        "cut": whole[: len(whole) // 2],
        "list": "[]",
        "not finite": whole.replace("21.2", "NaN"),
        "not text": None,
        "no split": json.dumps({key: value for key, value in record.items() if key != "split"}),
        "nested row": json.dumps(record | {"rows": [{"a": []}]}),
    }
    for name, text in broken.items():
        assert text != whole, name
        path.write_bytes(b"\xff\xfe\x00" if text is None else text.encode())
        with pytest.raises(UserError, match="01_models.json.*run its notebook again"):
            results.load_results(path)
    with pytest.raises(UserError, match="cannot be read"):
        results.load_results(tmp_path)


def test_a_table_shows_means_with_intervals():
    table = results.to_table(ROWS)
    assert list(table.columns) == ["epochs", "PSNR", "minutes"]
    assert table.columns.name == "model"
    assert list(table.index) == ["dense VAE", "U-Net"]
    assert list(table["PSNR"]) == ["21.20 [21.00, 21.40]", "34.88 [34.81, 34.95]"]
    assert list(table["epochs"]) == ["40", "40"]
    assert list(table["minutes"]) == ["1.5", "12.2"]
    assert results.to_table({"rows": ROWS}).equals(table)
    html = table.to_html()
    assert html.count("<tr") == 3 and "34.88 [34.81, 34.95]" in html
    assert "34.88 [34.81, 34.95]" in str(table)
    wide = results.to_table([{f"column {number}": "some text" for number in range(30)}])
    assert all(f"column {number}" in str(wide) for number in range(30)) and "..." not in str(wide)


def test_a_table_of_small_numbers_names_its_power_of_ten():
    rows = [
        {"model": "U-Net", **results.interval("MSE", 3.012e-4, 2.951e-4, 3.073e-4)},
        {"model": "VAE", **results.interval("MSE", 1.2e-3, 1.18e-3, 1.22e-3)},
        {"model": "published", "MSE": 3.0e-4},
    ]
    table = results.to_table(rows, {"model": "Model", "MSE": "Error"})
    assert table.columns.name == "Model"
    assert list(table["Error (×10⁻⁴)"]) == ["3.01 [2.95, 3.07]", "12.00 [11.80, 12.20]", "3.00"]


def test_a_constant_is_shown_without_the_digits_of_its_rounding():
    same = results.interval("NSDR", 12.0, 12.0 - 4e-15, 12.0 + 4e-15)
    nothing = results.interval("NSDR", -1e-16, -2e-16, 3e-16)
    real = results.interval("NSDR", 5.3, 5.1, 5.6)
    assert list(results.to_table([{"model": "a", **same}])["NSDR"]) == ["12.0 [12.0, 12.0]"]
    assert list(results.to_table([{"model": "mixture", **nothing}])["NSDR"]) == ["0.00 [0.00, 0.00]"]
    table = results.to_table([{"model": "mixture", **nothing}, {"model": "U-Net", **real}])
    assert list(table["NSDR"]) == ["0.0 [0.0, 0.0]", "5.3 [5.1, 5.6]"]


def test_a_table_shows_deviations_gaps_and_chosen_digits():
    rows = [
        {"loss": "BCE", "PSNR": 23.456, "PSNR std": 0.031, "parameters": 8270000},
        {"loss": "L1", "PSNR": None, "parameters": None},
    ]
    table = results.to_table(rows)
    assert list(table["PSNR"]) == ["23.46 ± 0.03", "–"]
    assert list(table["parameters"]) == ["8,270,000", "–"]
    assert results.to_table(rows, digits=1)["PSNR"].iloc[0] == "23.5 ± 0.0"
    assert results.to_table(rows, ["loss", "PSNR"], digits={"PSNR": 3})["PSNR"].iloc[0] == "23.456 ± 0.031"
    with pytest.raises(ValueError, match="SSIM"):
        results.to_table(rows, ["loss", "SSIM"])


def test_a_figure_is_saved_as_it_is_shown(run, tmp_path):
    fig = Picture(4, 3)
    fig.subplots().plot([1, 2])
    path = run.save_figure(fig, "curve")
    assert path == tmp_path / "build" / "figures" / "01_curve.png"
    assert path.read_bytes() == fig._repr_png_() and 300 < width(path) < 500
    assert [file.name for file in path.parent.iterdir()] == ["01_curve.png"]


@pytest.mark.parametrize("text", ["5", "[]", "null", '{"rows": 5}'])
def test_json_of_another_kind_is_refused_by_name(tmp_path, text):
    path = tmp_path / "other.json"
    record = dict.fromkeys(results.FIELDS, "") | {"rows": 5}
    path.write_text(json.dumps(record) if "rows" in text else text)
    with pytest.raises(UserError, match="other.json (has no .*title|needs rows that are)"):
        results.load_results(path)


def test_columns_keep_their_order_where_the_first_row_lacks_some():
    full = {"separator": "b", "SDR": 1.0, "NSDR": 2.0, "tracks": 3}
    rows = [{"separator": "a", "SDR": 1.0, "tracks": 3}, full, {"separator": "c", "NSDR": 1.0, "empty": 2, "tracks": 3}]
    assert list(results.to_table(rows).columns) == ["SDR", "NSDR", "empty", "tracks"]
    assert list(results.to_table(rows[1:]).columns) == ["SDR", "NSDR", "empty", "tracks"]
