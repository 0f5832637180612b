import pytest
import tiny


@pytest.fixture
def model():
    return tiny.make_model()


@pytest.fixture
def photos(tmp_path):
    return tiny.write_photos(tmp_path / "photos")
