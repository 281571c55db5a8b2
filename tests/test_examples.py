"""The rendered examples are what this source makes of their journals: data and text to the byte, pictures within what another matplotlib may move."""

import importlib.util
import io
import itertools
import lzma
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import toy_run
from PIL import Image

from fercompress.results.store import FILE, Store
from fercompress.verify import recomputed

ROOT = Path(__file__).parents[1]
_DATA_URI = re.compile(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+")
# Of 255 grey levels, anywhere, in squares of 8 x 8 pixels: a picture that is moved by a pixel differs by 27, the most alike of two by 68.
MOST_APART = 45.0
SQUARE = 8


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_examples", ROOT / "reports/render_examples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


render_examples = loaded()
EXAMPLES = render_examples.examples()


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda example: example.name)
def example(request):
    return request.param, render_examples.rendered(request.param)


def squares(content: bytes) -> np.ndarray:
    """Mean grey levels (0 to 255) of the picture's squares."""
    with Image.open(io.BytesIO(content)) as picture:
        grey = np.asarray(picture.convert("L"), np.float64)
    height, width = (side // SQUARE for side in grey.shape)
    return grey[: height * SQUARE, : width * SQUARE].reshape(height, SQUARE, width, SQUARE).mean((1, 3))


def apart(first: bytes, second: bytes) -> float:
    """Largest difference; pictures of different sizes are wholly apart."""
    one, other = squares(first), squares(second)
    return float(np.abs(one - other).max()) if one.shape == other.shape else 255.0


def test_there_is_an_example_of_the_default_study():
    assert "default" in [example.name for example in EXAMPLES]


def test_data_and_text_are_rendered_again_byte_for_byte(example):
    folder, made = example
    for name in ("summary.json", "summary.csv", "report.md"):
        assert (folder / name).read_bytes() == made[name], f"{name}: run reports/render_examples.py and look at what changed"
    kept, anew = (_DATA_URI.sub("data:", content.decode()) for content in ((folder / "index.html").read_bytes(), made["index.html"]))
    assert kept == anew, "index.html: run reports/render_examples.py and look at what changed"
    assert "data:" in anew


def test_pictures_are_drawn_again_within_a_tolerance(example):
    folder, made = example
    drawn = {name for name in made if name.endswith(".png")}
    assert {f"figures/{path.name}" for path in (folder / "figures").iterdir()} == drawn
    for name in sorted(drawn):
        assert apart((folder / name).read_bytes(), made[name]) < MOST_APART, name


def test_another_picture_is_beyond_the_tolerance(example):
    """Of all pictures of one size; two confusion matrices are the most alike."""
    _, made = example
    pairs = itertools.combinations((content for name, content in made.items() if name.endswith(".png")), 2)
    assert min(apart(*pair) for pair in pairs) > MOST_APART


def test_an_example_is_small(example):
    folder, _ = example
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 6e6


def test_a_run_that_is_taken_over_gives_the_same_report(tmp_path):
    """The journal's copy without single frames' times is read as the run's own."""
    run = tmp_path / "run"
    run.mkdir()
    with Store.open(run / FILE) as store:
        study = toy_run.study()
        toy_run.record_head(store, study)
        toy_run.record_blocks(store, study)
        store.record_plan([block.key for block in store.blocks()])
        with_frames = [entry.block.frame_ns for entry in store.entries()]
    assert any(with_frames)
    example = render_examples.take(run, tmp_path / "examples")
    assert [path.name for path in example.iterdir()] == [render_examples.KEPT]
    render_examples.render(example)
    whole = recomputed(run)
    for name in ("summary.json", "summary.csv", "report.md", "index.html"):
        assert (example / name).read_bytes() == whole[name]
    (example / "figures/no-longer-drawn.png").write_bytes(b"")
    render_examples.render(example)
    assert not (example / "figures/no-longer-drawn.png").exists()
    assert not list((example / "figures").glob("*.svg"))


def test_the_readme_shows_pictures_that_are_there():
    named = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).is_file()] == []
    assert [name for name in named if name.startswith("reports/examples/default/")]


def test_nothing_is_kept_of_the_machine_that_it_was_measured_on_but_its_kind():
    for folder in EXAMPLES:
        content = lzma.decompress((folder / render_examples.KEPT).read_bytes())
        assert re.findall(rb"/(?:home|root|work|Users)/[\w./-]+", content) == []
