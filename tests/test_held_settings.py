"""Settings of a library that are held while threads need them."""

from types import SimpleNamespace

from shiftproof.compute.held_settings import HeldSettings, Setting


def test_the_last_one_that_leaves_sets_them_back():
    library = SimpleNamespace(exact=False)
    held = HeldSettings(lambda: [Setting(library, "exact", True), Setting(library, "lacking", 1)])
    with held:
        with held:
            assert library.exact
        assert library.exact
    assert not library.exact
    assert not hasattr(library, "lacking")


def test_they_are_set_back_after_an_error():
    library = SimpleNamespace(exact=False)
    held = HeldSettings(lambda: [Setting(library, "exact", True)])
    try:
        with held:
            raise ValueError
    except ValueError:
        assert not library.exact
